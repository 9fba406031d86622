"""The command line: `pathoflow --help`."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pathoflow.cli import cluster as cluster_commands
from pathoflow.cli import estimate as estimate_command
from pathoflow.cli import registry_commands
from pathoflow.cli.optional_files import OptionalFiles
from pathoflow.cli.options import RecipeOption, SetOption
from pathoflow.errors import PathoflowError, StageError

app = typer.Typer(
    help="Patho-R1 as a pipeline: textbook pages in; a trained, evaluated, registered vision-language model out.\n\n"
    "Start with `pathoflow run --recipe smoke --workdir runs/demo`: minutes on a laptop, nothing mocked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

WorkDirArgument = Annotated[Path, typer.Argument(help="The work directory of a run.", metavar="DIR")]


@app.command()
def recipes() -> None:
    """List the recipes: what each trains on what."""
    from pathoflow.cli.views import print_recipes

    print_recipes()


@app.command()
def run(
    recipe: RecipeOption = "smoke",
    workdir: Annotated[
        Path | None, typer.Option(help="Where outputs and stores go. Default: runs/<recipe>.", metavar="DIR")
    ] = None,
    books: Annotated[
        list[Path] | None,
        typer.Option(
            help="Your own PDF, page image or a folder of them, beside the atlas; repeatable.", metavar="PATH"
        ),
    ] = None,
    books_only: Annotated[
        bool, typer.Option("--books-only", help="Read the pages of --books instead of the atlas's.")
    ] = False,
    set_: SetOption = None,
    only: Annotated[
        str | None,
        typer.Option(help="Run this one stage again, on the outputs that are there.", metavar="STAGE"),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Run this stage and all that stand on it again.", metavar="STAGE"),
    ] = None,
) -> None:
    """Run a recipe on this machine. Run it again to continue: what is finished is kept.

    Examples:
    - `pathoflow run --recipe smoke --workdir runs/demo`
    - `pathoflow run --recipe smoke --workdir runs/demo --set sft.learning_rate=1e-3`
    - `pathoflow run --recipe smoke --books my-atlas.pdf --books scans/`
    - `pathoflow run --recipe smoke --workdir runs/demo --from rl`
    """
    from pathoflow.cli.run import RunOptions, run_recipe

    options = RunOptions(
        recipe=recipe,
        workdir=workdir or Path("runs") / Path(recipe).name,
        books=tuple(books or ()),
        books_only=books_only,
        overrides=tuple(set_ or ()),
        only=only,
        from_stage=from_,
    )
    raise typer.Exit(run_recipe(options))


@app.command()
def status(workdir: WorkDirArgument) -> None:
    """Show how far a run is: each stage's state, time, counts and key metric."""
    from pathoflow.cli.views import print_status

    print_status(workdir)


@app.command()
def verify(workdir: WorkDirArgument) -> None:
    """Hash every sealed output of a run again; exit 4 if a byte of one changed."""
    from pathoflow.cli.verify import verify_outputs

    raise typer.Exit(verify_outputs(workdir))


@app.command(cls=OptionalFiles)
def audit(
    version: Annotated[
        str,
        typer.Argument(
            help="MODEL@ALIAS, MODEL/VERSION, or MODEL: its champion, or its latest version without one.",
            metavar="MODEL[@ALIAS | /VERSION]",
        ),
    ],
    workdir: Annotated[
        Path | None,
        typer.Option(help="Audit a local run. Default: the services that the environment names.", metavar="DIR"),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the books and archives from outside, where they are not at the recorded path.",
            metavar="DIR",
        ),
    ] = None,
    code: Annotated[
        Path | None,
        typer.Option(help="Clone in which the recorded commits are looked up. Default: this one.", metavar="DIR"),
    ] = None,
    md5: Annotated[
        bool, typer.Option("--md5", help="Check DVC's MD5 of each data file, too, beside the manifest's SHA-256.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write the report as JSON; without FILE it is printed.", metavar="[FILE]")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write the dossier: one HTML file that needs no network. Default: dossier.html.", metavar="[FILE]"
        ),
    ] = None,
    bom: Annotated[
        Path | None,
        typer.Option(help="Write a CycloneDX 1.6 bill of materials of the model. Default: bom.json.", metavar="[FILE]"),
    ] = None,
    attest: Annotated[
        Path | None,
        typer.Option(
            help="Write the verdict as an in-toto statement, signed with --key. Default: statement.json.",
            metavar="[FILE]",
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The private key that signs --attest.", metavar="FILE")] = None,
) -> None:
    """Re-verify a registered version back to its raw sources; exit 0 for PASS, 1 for FAIL, 2 for UNKNOWN.

    Examples:
    - `pathoflow audit patho-r1.prod@champion --html dossier.html`
    - `pathoflow audit patho-r1-smoke.dev --workdir runs/demo`
    """
    from pathoflow.cli.audit import AuditOptions, run_audit

    options = AuditOptions(version, workdir, sources, code, md5, json, html, bom, attest, key)
    raise typer.Exit(run_audit(options))


@app.command()
def lineage(
    what: Annotated[
        str,
        typer.Argument(
            help="A pair_id, source_id, book, image's SHA-256, shard (STAGE/PATH), stage, identity or version.",
            metavar="DATASET|MODEL",
        ),
    ],
    forward: Annotated[
        bool, typer.Option("--forward", help="Show what stands on it instead of what it was made from.")
    ] = False,
    workdir: Annotated[
        Path | None, typer.Option(help="A local run. Default: the services of the environment.", metavar="DIR")
    ] = None,
    index: Annotated[Path | None, typer.Option(help="Where the index is kept.", metavar="DIR")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a model was made from, or which models were trained on a book, shard, image or pair.

    Examples:
    - `pathoflow lineage bench_primer --forward --workdir runs/demo`
    - `pathoflow lineage patho-r1.prod@champion`
    """
    from pathoflow.cli.lineage import show_lineage

    raise typer.Exit(show_lineage(what, workdir, index, ahead=forward, as_json=json))


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="The version to repeat.", metavar="MODEL/VERSION")],
    workdir: Annotated[Path, typer.Option(help="Gets the repeated run; must be new.", metavar="DIR")],
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Local run that the version is in. Default: the services of the environment.", metavar="DIR"
        ),
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(help="Folder with the files from outside, if they moved.", metavar="DIR")
    ] = None,
    code: Annotated[
        Path | None, typer.Option(help="Clone that has the recorded commit. Default: this one.", metavar="DIR")
    ] = None,
) -> None:
    """Run a version's pipeline again as it was recorded, and tell what came out the same; exit 1 if something differs.

    Example: `pathoflow reproduce patho-r1-smoke.dev/1 --from runs/demo --workdir runs/again`
    """
    from pathoflow.cli.reproduce import repeat

    raise typer.Exit(repeat(version, workdir, from_, sources, code))


@app.command()
def gc(
    workdir: Annotated[
        Path | None, typer.Option(help="A local run. Default: the services of the environment.", metavar="DIR")
    ] = None,
    older_than: Annotated[float, typer.Option(min=0, help="Keep what is younger.", metavar="DAYS")] = 7.0,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this, it is only shown.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="List every item.")] = False,
    backend_store_uri: Annotated[
        str | None,
        typer.Option(help="MLflow's database, which `mlflow gc` needs to remove a server's runs for good."),
    ] = None,
    kfp_artifacts: Annotated[
        str | None,
        typer.Option(
            help="Clean up here, too: what Kubeflow Pipelines keeps of its runs, e.g. s3://mlpipeline/v2/artifacts. "
            "Its cache may still name what is removed: submit with --no-cache afterwards.",
            metavar="S3_URI|DIR",
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Clean up here, too: the mounted volume of checkpoints.", metavar="DIR")
    ] = None,
) -> None:
    """Show, and with --delete remove, runs, data, pipeline artifacts and checkpoints that no registered version needs.

    Examples:
    - `pathoflow gc --workdir runs/demo --older-than 1`
    - `pathoflow gc --kfp-artifacts s3://mlpipeline/v2/artifacts --checkpoints /checkpoints`
    """
    from pathoflow.cli.gc import collect_garbage
    from pathoflow.governance.audit.gc import Cluster

    cluster = Cluster(kfp_artifacts, checkpoints)
    raise typer.Exit(collect_garbage(workdir, older_than, backend_store_uri, cluster, delete=delete, every=all_))


@app.command()
def ui(
    workdir: WorkDirArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open a run's metrics, plots and registered models in MLflow's own interface."""
    from pathoflow.contract.workdir import WorkDir
    from pathoflow.errors import InputError

    place = WorkDir(workdir)
    if not (place.mlflow / "mlflow.db").is_file():
        raise InputError(f"{workdir} has no MLflow store. Run a recipe there first.")
    typer.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)")
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", place.tracking_uri]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    os.execvpe(command[0], command, environment)


estimate_command.add_to(app)
cluster_commands.add_to(app)
registry_commands.add_to(app)


def main() -> NoReturn:
    """Runs the command line; an error that a user can mend ends it with a message and its own exit code."""
    try:
        app()
    except PathoflowError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail("The disk is full. Free some space and run the same command again.", StageError.exit_code)
    sys.exit(0)


def _fail(message: str, exit_code: int) -> NoReturn:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(exit_code)
