"""The two ways into a stage: as a KFP task, and as a command of its own."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.config import StageConfig
from pathoflow.contract.references import Reference, fetch
from pathoflow.contract.sealing import read_manifest
from pathoflow.contract.sharding import Shard
from pathoflow.contract.stage import Services, describe, disk_is_full, execute, exit_code_of, explain
from pathoflow.contract.workdir import StageState, WorkDir
from pathoflow.errors import ConfigError, PathoflowError, SealError
from pathoflow.system.processes import die_with

FORCED = "PATHOFLOW_FORCED"
KEPT = "PATHOFLOW_KEPT"
OWNER = "PATHOFLOW_OWNER_PID"
WORKDIR = "PATHOFLOW_WORKDIR"
LAST_WORDS = "PATHOFLOW_TERMINATION_LOG"
"""Names the file whose content Kubernetes shows as the message of a pod that ended."""


class Artifact(Protocol):
    """The part of a KFP artifact that is used here."""

    path: str
    metadata: dict[str, Any]


def run_task(
    config_type: type[StageConfig],
    config: str,
    inputs: Mapping[str, Artifact | None],
    output: Artifact,
    *,
    shard: str = "",
    parts: Sequence[Artifact] | None = None,
) -> None:
    """The body of every KFP component: fetches what the input references name, runs the stage, writes its reference.

    The work directory and the services come from the environment (`PATHOFLOW_WORKDIR`, `MLFLOW_TRACKING_URI`,
    `PATHOFLOW_DVC_REMOTE`). Stages listed in `PATHOFLOW_KEPT` hand on what is sealed as it is; those in
    `PATHOFLOW_FORCED` run even though their output is there.

    Args:
        config_type: The stage's configuration class.
        config: The stage's configuration as JSON.
        inputs: References to the stage's inputs by name.
        output: Gets the reference to what the stage made.
        shard: `i/n` makes one part of the stage's output; empty makes the output.
        parts: References to the parts that other tasks made of the output.
    """
    if owner := os.environ.get(OWNER):
        die_with(int(owner))
    os.chdir(REPOSITORY)
    stage = config_type.stage
    share = Shard.parse(shard) if shard else None
    name = share.name(stage) if share else stage
    # On a cluster the run's id, which another variable holds, is a part of the path.
    workdir = WorkDir(Path(os.path.expandvars(os.environ.get(WORKDIR, "/tmp/pathoflow"))))
    services = Services.from_environment(workdir)
    try:
        workdir.create()
        if stage in _listed(KEPT):
            # The shards of a kept stage hand on its whole output, which nobody looks at.
            reference = _kept(config_type, workdir)
        else:
            reference = execute(
                config_type.model_validate_json(config),
                {
                    source: _fetched(artifact, workdir, services)
                    for source, artifact in inputs.items()
                    if artifact is not None
                },
                workdir,
                services,
                force=name in _listed(FORCED),
                shard=share,
                parts=[_fetched(artifact, workdir, services) for artifact in parts or ()],
            )
    except BaseException as error:
        _record(error, name, workdir)
        _exit_with(error, name, workdir)
    Path(output.path).write_text(reference.model_dump_json(exclude_none=True))
    output.metadata.update(reference.model_dump(exclude_none=True))


def _fetched(artifact: Artifact, workdir: WorkDir, services: Services) -> Path:
    """The directory with what an artifact refers to."""
    reference = Reference.model_validate_json(Path(artifact.path).read_bytes())
    return fetch(reference, workdir, services.tracking_uri)


def main(config_type: type[StageConfig]) -> None:
    """The command line of one stage, which `dvc.yaml` and a researcher at a desk call."""
    from pathoflow.contract.recipe import find_recipe, load_stage, parse_overrides

    stage = config_type.stage

    def command(
        recipe: Annotated[str, typer.Option(help="Name or folder of the recipe.")] = "smoke",
        workdir: Annotated[
            Path, typer.Option(help="Holds the sealed outputs of the stages before, and gets this one's.")
        ] = Path("runs/smoke"),
        set_: Annotated[list[str] | None, typer.Option("--set", help="key=value on top of the recipe.")] = None,
        force: Annotated[bool, typer.Option(help="Run even though the output is there.")] = False,
        versioned: Annotated[
            bool, typer.Option(help="Push data to DVC; --no-versioned under `dvc repro`, which does it itself.")
        ] = True,
        shard: Annotated[
            str | None,
            typer.Option(
                metavar="I/N", help="Do only the I-th of N shares of the work; a run without it then merges them."
            ),
        ] = None,
    ) -> None:
        place = WorkDir(workdir)
        name = stage
        try:
            place.create()
            share = _share(config_type, shard)
            name = share.name(stage) if share else stage
            overrides = [text if text.startswith(f"{stage}.") else f"{stage}.{text}" for text in set_ or []]
            folder = find_recipe(recipe)
            config, _ = load_stage(config_type, folder, parse_overrides(overrides, [stage]).get(stage, {}))
            os.chdir(REPOSITORY)
            # Beside the runs that `pathoflow run` makes of this recipe.
            os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", f"pathoflow-{folder.name}")
            if not versioned:
                os.environ["PATHOFLOW_DVC_REMOTE"] = ""
            inputs = {name: place.output(name) for name in config_type.inputs if place.output(name).is_dir()}
            reference = execute(config, inputs, place, Services.from_environment(place), force=force, shard=share)
        except BaseException as error:
            _exit_with(error, name, place)
        print(f"{name}: {reference.identity} in {place.output(name)}")

    command.__doc__ = f"Runs the `{stage}` stage alone, on the sealed outputs in the work directory."
    typer.run(command)


def _share(config_type: type[StageConfig], text: str | None) -> Shard | None:
    """The shard that a command line names.

    Raises:
        ConfigError: It is no shard, or the stage cannot be divided.
    """
    if text is None:
        return None
    if not config_type.can_shard:
        raise ConfigError(f"--shard {text}: the work of {config_type.stage} cannot be divided. Leave --shard out.")
    return Shard.parse(text)


def _kept(config_type: type[StageConfig], workdir: WorkDir) -> Reference:
    stage = config_type.stage
    path = workdir.reference(stage)
    if not path.is_file() or not workdir.output(stage).is_dir():
        raise SealError(
            f"{stage} has no sealed output in {workdir.root}, and this run was told not to make it. "
            "Run without --only and --from first."
        )
    workdir.write_state(
        describe(
            StageState(stage, "unchanged", key_metric=config_type.key_metric), read_manifest(workdir.output(stage))
        )
    )
    return Reference.model_validate_json(path.read_bytes())


def _record(error: BaseException, stage: str, workdir: WorkDir) -> None:
    """Leaves the reason in the state of a stage that did not come so far as to do so itself."""
    # A disk that is full is told by the error itself.
    with suppress(OSError):
        if workdir.read_state(stage).status == "waiting":
            reason, code = explain(error, stage, workdir), exit_code_of(error)
            workdir.write_state(StageState(stage, "failed", error=reason, exit_code=code))


def _listed(variable: str) -> list[str]:
    return os.environ.get(variable, "").split(",")


def _exit_with(error: BaseException, stage: str, workdir: WorkDir) -> None:
    """Prints an error as its reader needs it, a traceback only where it is not the user's, and exits with its code."""
    if isinstance(error, SystemExit):
        raise error
    if not isinstance(error, PathoflowError | KeyboardInterrupt) and not disk_is_full(error):
        traceback.print_exception(error)
    message = explain(error, stage, workdir)
    print(f"error: {message}", file=sys.stderr)
    _leave_in_pod(message)
    sys.exit(exit_code_of(error))


def _leave_in_pod(message: str) -> None:
    """Puts an error into the status of the pod that this process runs in, where whoever asks for its end finds it."""
    path = Path(os.environ.get(LAST_WORDS, "/dev/termination-log"))
    # Outside a pod there is no such file. Kubernetes keeps 4096 bytes of it.
    with suppress(OSError), path.open("r+b") as file:
        file.truncate()
        file.write(message.encode()[:4096])
