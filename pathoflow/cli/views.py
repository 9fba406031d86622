"""Renders recipes and runs for the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pathoflow.contract.workdir import StageState, WorkDir, now
from pathoflow.errors import InputError

_LOOKS = {
    "waiting": ("·", "dim"),
    "running": ("▶", "bold cyan"),
    "done": ("✔", "green"),
    "unchanged": ("=", "green"),
    "failed": ("✘", "bold red"),
    "stopped": ("■", "yellow"),
}


def print_recipes() -> None:
    """Lists the recipes with their titles."""
    from pathoflow.contract.recipe import RECIPES, read_about, recipe_names

    table = Table("recipe", "what it does", box=None, padding=(0, 2))
    for name in recipe_names():
        table.add_row(f"[bold]{name}[/]", read_about(RECIPES / name).title)
    Console().print(table)


class LiveView:
    """Shows the stages while they run: a table that is redrawn on a terminal, one line per change elsewhere.

    Args:
        workdir: The run's work directory.
        stages: The stages in the order in which they run.
    """

    def __init__(self, workdir: WorkDir, stages: list[str]) -> None:
        self._workdir, self._stages = workdir, stages
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._seen: dict[str, str] = {}

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        if self._console.is_terminal:
            self._live.stop()

    def update(self) -> None:
        """Shows what changed since the last call."""
        states = [self._workdir.read_state(stage) for stage in self._stages]
        if self._console.is_terminal:
            self._live.update(_stage_table(states), refresh=True)
            return
        for state in states:
            if self._seen.get(state.stage, "waiting") != state.status:
                self._seen[state.stage] = state.status
                took = f" in {_duration(state.total_s)}" if state.status in ("done", "failed", "stopped") else ""
                self._console.print(f"{state.stage}: {state.status}{took}", highlight=False)


def print_status(path: Path) -> None:
    """Prints the state of a run, whether it goes on or not.

    Raises:
        InputError: No run was ever made there.
    """
    workdir = WorkDir(path)
    run = workdir.read_run()
    if run is None:
        raise InputError(f"{path} holds no run. Start one with `pathoflow run --workdir {path}`.")
    busy = workdir.is_busy()
    verb = "is running" if busy else f"has {'finished' if run.status == 'finished' else 'not finished'}"
    console = Console()
    console.print(f"Run {run.id} of recipe {run.recipe} {verb}.", highlight=False)
    states = [workdir.read_state(stage) for stage in run.stages]
    for state in states:
        if state.status == "running" and not busy:
            state.status = "stopped"
    console.print(_stage_table(states) if busy else _summary_table(states))
    _print_errors(console, states)


def print_summary(workdir: WorkDir) -> None:
    """Prints the table at a run's end, what went wrong, and where to look next."""
    console = Console()
    run = workdir.read_run()
    assert run is not None
    states = [workdir.read_state(stage) for stage in run.stages]
    console.print(_summary_table(states))
    _print_errors(console, states)
    took = _duration(run.ended_at - run.started_at)
    shown = _shown(workdir.root)
    if run.status == "finished":
        console.print(f"[bold green]Finished[/] in {took}. {_registered(states)}", highlight=False)
    elif not any(state.error for state in states):
        console.print(f"[bold red]Not finished[/] after {took}. The log: {_shown(workdir.log_file)}", highlight=False)
    next_steps = Table.grid(padding=(0, 2))
    next_steps.add_row("metrics, plots, models", f"pathoflow ui {shown}")
    next_steps.add_row("check every byte", f"pathoflow verify {shown}")
    next_steps.add_row("what the stages printed", _shown(workdir.log_file))
    if any(state.num_quarantined for state in states):
        next_steps.add_row("what was set aside, and why", f"{shown}/*/quarantine.jsonl")
    console.print(next_steps)


def _stage_table(states: list[StageState]) -> RenderableType:
    """The live table: state, elapsed time, and progress inside the running stage."""
    table = Table(box=None, padding=(0, 1))
    for heading in ("", "stage", "time", "progress", ""):
        table.add_column(heading, justify="right" if heading == "time" else "left")
    for state in states:
        icon, style = _LOOKS[state.status]
        bar: RenderableType = ""
        beside = ""
        if state.status == "running":
            bar, beside = _progress(state)
        elif state.status in ("done", "unchanged"):
            beside = _key_metric(state)
        table.add_row(Text(icon, style), Text(state.stage, style), _elapsed(state), bar, beside)
    return Group(table)


def _progress(state: StageState) -> tuple[RenderableType, str]:
    """The bar of a running stage and the figures beside it."""
    if state.report is None:
        return "", "checking inputs"
    try:
        progress: dict[str, Any] = json.loads((Path(state.report) / "progress.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return "", ""
    done, total = progress["done"], max(progress["total"], 1)
    figures = [f"{done}/{total} {progress['unit']}"]
    elapsed_s = now() - state.started_at
    if 0 < done < total and elapsed_s > 3:
        # A stage that went on from a checkpoint knows its pace better.
        left_s = progress["shown"].get("left_s", elapsed_s * (total - done) / done)
        figures.append(f"{_duration(left_s)} left")
    figures += [f"{name} {_figure(value)}" for name, value in progress["shown"].items() if name != "left_s"]
    return ProgressBar(total=total, completed=done, width=24), "  ".join(figures)


def _summary_table(states: list[StageState]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "stage", "time", "overhead", "in", "out", "quarantined", "key metric"):
        right = heading in ("time", "overhead", "in", "out", "quarantined")
        table.add_column(
            heading, justify="right" if right else "left", no_wrap=heading != "key metric", overflow="fold"
        )
    for state in states:
        icon, style = _LOOKS[state.status]
        finished = state.status in ("done", "unchanged")
        counts = [f"{n:,}" if finished else "" for n in (state.num_in, state.num_out, state.num_quarantined)]
        overhead = _duration(state.total_s - state.run_s) if state.total_s else ""
        table.add_row(
            Text(icon, style),
            Text(state.stage, style),
            _elapsed(state),
            overhead,
            *counts,
            _key_metric(state),
        )
    return table


def _print_errors(console: Console, states: list[StageState]) -> None:
    for state in states:
        if state.error and state.status in ("failed", "stopped"):
            console.print(f"[bold red]{state.stage}[/]: {escape(state.error)}", highlight=False, soft_wrap=True)


def _registered(states: list[StageState]) -> str:
    for state in states:
        if version := state.notes.get("model_version"):
            return f"Registered [bold]{version}[/]."
    return ""


def _key_metric(state: StageState) -> str:
    """The stage's key metric, with its interval and chance where it has them."""
    name = state.key_metric
    if name is None or name not in state.metrics:
        return ""
    text = f"{name} {_figure(state.metrics[name])}"
    low, high = state.metrics.get(f"{name}_low"), state.metrics.get(f"{name}_high")
    if low is not None and high is not None:
        text += f" \\[{_figure(low)}, {_figure(high)}]"
    chance = state.metrics.get(f"{name}_chance", state.metrics.get("chance") if low is not None else None)
    if chance is not None:
        text += f", chance {_figure(chance)}"
    return text


def _elapsed(state: StageState) -> str:
    if state.status == "waiting":
        return ""
    return _duration(now() - state.started_at if state.status == "running" else state.total_s)


def _duration(seconds: float) -> str:
    """A duration to read.

    >>> _duration(3.21), _duration(75), _duration(7300)
    ('3.2 s', '1:15', '2:01:40')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _figure(value: float | str) -> str:
    """A figure to read.

    >>> _figure(0.83214), _figure(1200), _figure(3.0), _figure(1e-5)
    ('0.832', '1,200', '3', '1e-05')
    """
    if isinstance(value, str):
        return value
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.3g}"


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
