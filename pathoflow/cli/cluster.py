"""The cluster's commands: compile, submit and doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pathoflow.cli.options import RecipeOption, SetOption

if TYPE_CHECKING:
    from pathoflow.cluster.settings import Cluster

_OVERLAY = "Folder of the overlay with the cluster's parameters, such as manifests/overlays/single-gpu."
ClusterOption = Annotated[Path, typer.Option(help=_OVERLAY, metavar="OVERLAY")]
CacheOption = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Reuse what the same stage made of the same inputs in earlier runs.")
]


def compile_(
    recipe: RecipeOption = "smoke",
    out: Annotated[Path, typer.Option(help="Where the pipeline's YAML goes.", metavar="FILE")] = Path("pipeline.yaml"),
    cluster: Annotated[
        Path | None, typer.Option(help=f"{_OVERLAY} Default: a pipeline for one machine.", metavar="OVERLAY")
    ] = None,
    set_: SetOption = None,
    cache: CacheOption = True,
) -> None:
    """Compile a recipe to a KFP pipeline, for one machine or for a cluster.

    Examples:
    - `pathoflow compile --recipe smoke --out smoke.yaml`
    - `pathoflow compile --recipe paper_7b --cluster manifests/overlays/multi-node --out paper_7b.yaml`
    """
    from components import catalogue
    from pathoflow.cli.estimate import warn_of_misfits
    from pathoflow.cluster.settings import load_cluster
    from pathoflow.contract.recipe import load_recipe
    from pathoflow.system.files import write_atomically
    from pipelines.compile import compile_recipe

    loaded = load_recipe(recipe, catalogue(), set_ or ())
    place = load_cluster(cluster) if cluster else None
    text = compile_recipe(loaded, place, cache=cache)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text)
    where = f" for namespace {place.namespace}" if place else ""
    typer.echo(f"{out}: {len(loaded.stages)} stages of recipe {loaded.name}{where}")
    warn_of_misfits(loaded)
    if place and place.placeholders():
        _warn_of_placeholders(place)


def submit(
    cluster: ClusterOption,
    recipe: RecipeOption = "smoke",
    host: Annotated[
        str | None, typer.Option(help="Address of Kubeflow Pipelines. Default: the overlay's.", metavar="URL")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Experiment of the run. Default: pathoflow-<recipe>.", metavar="NAME")
    ] = None,
    run_name: Annotated[
        str | None, typer.Option(help="Name of the run. Default: the recipe's and the time.", metavar="NAME")
    ] = None,
    set_: SetOption = None,
    cache: CacheOption = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compile, check and ask the server who you are; start nothing.")
    ] = False,
) -> None:
    """Start a recipe's run on a cluster; prints where to watch it.

    The token comes from KFP_TOKEN, or in a pod from its service account; KFP_CA_CERT names a CA bundle.

    Examples:
    - `pathoflow submit --recipe smoke --cluster manifests/overlays/local --host http://localhost:8080`
    - `KFP_TOKEN=… pathoflow submit --recipe paper_7b --cluster manifests/overlays/multi-node --dry-run`
    """
    from components import catalogue
    from pathoflow.cli.estimate import warn_of_misfits
    from pathoflow.cluster.settings import load_cluster
    from pathoflow.contract.recipe import load_recipe
    from pipelines.submit import Submission, start

    place = load_cluster(cluster)
    loaded = load_recipe(recipe, catalogue(), set_ or ())
    warn_of_misfits(loaded)
    submission = Submission(loaded, place, host or place.kfp, experiment, run_name, cache=cache)
    typer.echo(start(submission, dry_run=dry_run))


def doctor(
    cluster: ClusterOption,
    recipe: Annotated[
        str | None, typer.Option(help="Also check that this recipe fits: quota, nodes, TrainJobs.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Context of the kubeconfig. Default: its current one.", metavar="NAME")
    ] = None,
    set_: SetOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a cluster before a run: one line per finding, with a remedy; exit 11 if something failed.

    Example: `pathoflow doctor --cluster manifests/overlays/multi-node --recipe paper_7b`
    """
    from components import catalogue
    from pathoflow.cli.estimate import DEFAULT_GPU
    from pathoflow.cli.findings import show
    from pathoflow.cluster.doctor import examine
    from pathoflow.cluster.settings import load_cluster
    from pathoflow.contract.recipe import load_recipe
    from pathoflow.errors import ConfigError
    from pathoflow.estimate.fit_warnings import fit_warnings

    if set_ and not recipe:
        raise ConfigError("--set changes a recipe: name it with --recipe.")
    loaded = load_recipe(recipe, catalogue(), set_ or ()) if recipe else None
    findings = examine(load_cluster(cluster), loaded, context)
    findings += fit_warnings(loaded, DEFAULT_GPU) if loaded else []
    raise typer.Exit(show(findings, as_json=json))


def add_to(app: typer.Typer) -> None:
    """Adds the cluster's commands to the command line."""
    app.command(name="compile")(compile_)
    app.command()(submit)
    app.command()(doctor)


def _warn_of_placeholders(cluster: Cluster) -> None:
    names = ", ".join(cluster.placeholders())
    typer.echo(f"{names}: still a placeholder. Push your images and write their digests before you submit.", err=True)
