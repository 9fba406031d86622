"""`pathoflow estimate`: what a recipe's stages need, and what to change where it does not fit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pathoflow.cli.options import RecipeOption, SetOption

if TYPE_CHECKING:
    from rich.table import Table

    from pathoflow.contract.recipe import Recipe
    from pathoflow.estimate.stage_estimate import StageEstimate
    from pathoflow.estimate.stages import Assumptions
    from pathoflow.estimate.suggestions import Suggestion

DEFAULT_GPU = "h100-80"
DOES_NOT_FIT = 1
_PART_NAMES = {"kv_cache": "KV cache", "reference": "reference model", "runtime": "CUDA, fragments"}
_UNKNOWN = "–"


def estimate(
    recipe: RecipeOption = "smoke",
    gpu: Annotated[
        str, typer.Option(help="Kind of GPU: a100-40, a100-80, l40s, h100-80, h200 or b200.", metavar="KIND")
    ] = DEFAULT_GPU,
    set_: SetOption = None,
    workdir: Annotated[
        Path | None, typer.Option(help="A run whose sealed data is counted, as far as it is there.", metavar="DIR")
    ] = None,
    cluster: Annotated[
        Path | None,
        typer.Option(help="Overlay of a cluster, whose volume of checkpoints must hold a stage's.", metavar="OVERLAY"),
    ] = None,
    pairs: Annotated[int | None, typer.Option(min=1, help="Image–caption pairs of the corpus.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Reasoning samples.")] = None,
    questions: Annotated[int | None, typer.Option(min=1, help="Questions of reinforcement learning.")] = None,
    mfu: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="Share of the GPU's peak that training reaches; decides the time alone."),
    ] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, sizes in bytes and times in seconds.")] = False,
) -> None:
    """Compute what each stage needs before a cluster is asked: memory by part, time, disk; exit 1 if it does not fit.

    Nothing is loaded or downloaded: figures follow from the recipe and the models' dimensions. A column is a stage. Its
    memory is that of one GPU at the fullest moment, which is named; what is too much is red, with values that fit.

    Try values before you write them down:
    - `pathoflow estimate --recipe paper_7b`
    - `pathoflow estimate --recipe paper_7b --gpu h200 --set rl.max_completion_tokens=4096`
    - `pathoflow estimate --recipe single_gpu --gpu a100-40 --pairs 200000`
    - `pathoflow estimate --recipe paper_3b --workdir runs/mine --json`
    """
    from components import catalogue
    from pathoflow.cluster.settings import load_cluster
    from pathoflow.contract.recipe import load_recipe
    from pathoflow.estimate.data_sizes import data_sizes
    from pathoflow.estimate.devices import GPUS
    from pathoflow.estimate.stages import Assumptions
    from pathoflow.estimate.stages import estimate as estimate_recipe
    from pathoflow.estimate.suggestions import suggestions

    if gpu not in GPUS:
        raise typer.BadParameter(f"{gpu} is not known; known are {', '.join(GPUS)}.", param_hint="--gpu")
    loaded = load_recipe(recipe, catalogue(), set_ or ())
    data = data_sizes(loaded.stages, workdir, pairs=pairs, samples=samples, questions=questions)
    assumptions = Assumptions(GPUS[gpu], data, mfu)
    stages = estimate_recipe(loaded, assumptions)
    if cluster:
        size = load_cluster(cluster).checkpoints_size
        stages = [dataclasses.replace(stage, disk_limit=size_of(size)) for stage in stages]
    found = {stage.stage: suggestions(loaded, stage.stage, assumptions) for stage in stages if stage.faults()}
    if as_json:
        print(json.dumps([_as_json(stage, found.get(stage.stage, ())) for stage in stages], indent=2))
    else:
        _show(loaded, stages, assumptions, found)
    raise typer.Exit(DOES_NOT_FIT if found else 0)


def size_of(quantity: str) -> float:
    """Converts a Kubernetes quantity to bytes."""
    from pathoflow.estimate.stage_estimate import bytes_of

    return bytes_of(quantity)


def warn_of_misfits(recipe: Recipe) -> None:
    """Warns on stderr of stages that do not fit GPUs of the default kind; it never stops anything."""
    from pathoflow.estimate.fit_warnings import fit_warnings

    for misfit in fit_warnings(recipe, DEFAULT_GPU):
        typer.echo(f"Warning: {misfit.what}: {misfit.detail}. {misfit.remedy}", err=True)


def add_to(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(estimate)


def _as_json(stage: StageEstimate, found: Sequence[Suggestion]) -> dict[str, Any]:
    values = {field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)}
    phases = {phase.name: dict(phase.parts) | {"total": phase.total} for phase in values.pop("phases")}
    basis = values.pop("basis")
    return {
        **values,
        "moments": phases,
        "told": basis,
        "host": dict(stage.host),
        "disk": dict(stage.disk),
        "fullest_moment": stage.peak.name,
        "gpu_total": stage.peak.total,
        "host_total": stage.host_total,
        "gpu_hours": stage.gpu_hours,
        "faults": stage.faults(),
        "fits": not stage.faults(),
        "suggestions": [suggestion.options for suggestion in found],
    }


def _show(
    recipe: Recipe,
    stages: Sequence[StageEstimate],
    assumptions: Assumptions,
    found: Mapping[str, Sequence[Suggestion]],
) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    gpu = assumptions.gpu
    where = f"{gpu.name} GPUs, {gpu.memory / 2**30:.1f} GiB each" if any(stage.gpus for stage in stages) else "CPUs"
    console.print(f"[bold]{recipe.name}[/] on {where}. Sizes in GiB.\n")
    console.print(_table(stages))
    console.print("Rests on:")
    for stage in stages:
        console.print(f"  [dim]{stage.stage}[/]  {stage.basis}", soft_wrap=False)
    console.print(f"  [dim]data[/]  {assumptions.data.summary()}")
    console.print(f"  [dim]time[/]  {assumptions.mfu:.0%} of the GPU's peak (--mfu), sampling by plain transformers")
    for stage in stages:
        if stage.stage not in found:
            continue
        console.print(f"\n[bold red]{stage.stage} does not fit:[/] {escape('; '.join(stage.faults()))}")
        for suggestion in found[stage.stage]:
            # Not wrapped, so that it can be copied.
            console.print(f"  [green]{escape(suggestion.options)}[/]", soft_wrap=True)
        if not found[stage.stage]:
            console.print("  Nothing that was tried fits: take GPUs with more memory, or a smaller model.")
    if not found:
        console.print("\n[bold green]Every stage fits.[/]")


def _table(stages: Sequence[StageEstimate]) -> Table:
    """Builds a table with stages as columns and their needs as rows, in sections."""
    from rich import box
    from rich.table import Table

    from pathoflow.estimate.gpu_memory import PARTS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for stage in stages:
        # A long name in two lines leaves 80 columns enough for five stages.
        table.add_column(stage.stage.replace("_", "_\n"), justify="right", no_wrap=True)

    def row(name: str, cell: Callable[[StageEstimate], str], *, style: str = "", end: bool = False) -> None:
        table.add_row(name, *(cell(stage) for stage in stages), style=style, end_section=end)

    row("parameters", lambda stage: _count(stage.parameters))
    row("that learn", lambda stage: _count(stage.learning) if stage.learning else _UNKNOWN)
    row("GPUs", lambda stage: str(stage.gpus or _UNKNOWN), end=True)
    for part in PARTS:
        if any(stage.peak.parts.get(part) for stage in stages):
            row(_PART_NAMES.get(part, part), partial(_part, part))
    row("fullest at", lambda stage: _PHASES.get(stage.peak.name, stage.peak.name), style="dim")
    row(
        "a GPU, of it" if any(stage.gpus for stage in stages) else "a process",
        lambda stage: _against(stage.peak.total, stage.gpu_limit),
        style="bold",
        end=True,
    )
    row("a node, of it", lambda stage: _against(stage.host_total, stage.host_limit), style="bold")
    row("/dev/shm, of it", lambda stage: _against(stage.shm, stage.shm_limit))
    row("disk", lambda stage: _against(sum(stage.disk.values()), stage.disk_limit), end=True)
    row("exaFLOP", lambda stage: f"{stage.flops / 1e18:,.3g}")
    row("hours", _hours)
    row("GPU-hours", lambda stage: _UNKNOWN if stage.gpu_hours is None else f"{stage.gpu_hours:,.3g}")
    return table


def _part(part: str, stage: StageEstimate) -> str:
    return _gib(stage.peak.parts.get(part, 0.0))


_PHASES = {
    "forward pass": "forward",
    "backward pass": "backward",
    "optimiser's step": "step",
    "prompts read": "prompts",
    "last token generated": "last token",
    "next model loaded": "next model",
    "dev questions: prompts read": "dev",
    "dev questions: last token generated": "dev",
}
"""Moments in the width of a column."""


def _hours(stage: StageEstimate) -> str:
    if stage.seconds is None:
        return _UNKNOWN
    text = f"{stage.seconds / 3600:,.3g}"
    late = stage.deadline is not None and stage.seconds > stage.deadline
    return f"[bold red]{text}[/]" if late else text


def _against(need: float, limit: float | None) -> str:
    """Formats a need beside its limit; red where it is more."""
    if limit is None:
        return _gib(need)
    text = f"{_gib(need)} / {limit / 2**30:.0f}"
    return f"[bold red]{text}[/]" if need > limit else text


def _gib(size: float) -> str:
    """Formats a size in GiB.

    >>> _gib(0), _gib(2**20), _gib(3 * 2**30), _gib(300 * 2**30)
    ('–', '0.001', '3.0', '300')
    """
    if size == 0:
        return _UNKNOWN
    if size < 0.05 * 2**30:
        return f"{size / 2**30:.1g}"
    return f"{size / 2**30:,.1f}" if size < 100 * 2**30 else f"{size / 2**30:,.0f}"


def _count(number: int) -> str:
    """Formats a number of parameters.

    >>> _count(3_754_622_976), _count(427_616_513), _count(300_000)
    ('3.75 B', '428 M', '0.3 M')
    """
    if number >= 1e9:
        return f"{number / 1e9:.2f} B"
    return f"{number / 1e6:.0f} M" if number >= 1e7 else f"{number / 1e6:.1f} M"
