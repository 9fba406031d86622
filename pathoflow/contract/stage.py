"""Runs one stage under its contract: verified inputs, a sealed output, tracking, versioning and restart."""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathoflow.contract.code import code_of, stage_package
from pathoflow.contract.config import StageConfig
from pathoflow.contract.output import QUARANTINE_FILE, StageOutput
from pathoflow.contract.publication import log_output
from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import Code, Counts, Manifest, describe_external, read_manifest, seal, verify
from pathoflow.contract.sharding import Shard, Work, parts_of
from pathoflow.contract.workdir import StageState, Status, WorkDir, now
from pathoflow.errors import InputError, PathoflowError, Preempted, QuarantineError, SealError, StageError
from pathoflow.system.files import sync_directory, write_atomically
from pathoflow.system.memory import default_garbage_collection, rare_garbage_collection
from pathoflow.system.processes import STOP_REQUESTED, interrupt

if TYPE_CHECKING:
    from pathoflow.stores.tracking import StageRun, Tracker

_STOPPED = "Stopped on request. Run the same command again to continue."


@dataclass(frozen=True)
class Services:
    """Stores of a stage's tracking and versions.

    Attributes:
        tracking_uri: MLflow's tracking URI.
        experiment: MLflow's experiment.
        dvc_remote: URL of the DVC remote; None leaves versioning to the caller, as `dvc repro` wants.
    """

    tracking_uri: str
    experiment: str
    dvc_remote: str | None

    @classmethod
    def from_environment(cls, workdir: WorkDir) -> Services:
        """Returns the services that the environment names, or local stores below the work directory."""
        return cls(
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or workdir.tracking_uri,
            experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or "pathoflow",
            dvc_remote=os.environ.get("PATHOFLOW_DVC_REMOTE", str(workdir.dvc / "remote")) or None,
        )


def execute(
    config: StageConfig,
    inputs: Mapping[str, Path],
    workdir: WorkDir,
    services: Services,
    *,
    force: bool = False,
    shard: Shard | None = None,
    parts: Sequence[Path] = (),
) -> Reference:
    """Makes sure that the stage's output is in the work directory, sealed, published and tracked.

    An output that was made from the same configuration, code and inputs is recognised and kept. A killed stage
    continues from its scratch directory.

    Args:
        config: The stage's configuration; the stage's code lies beside its class.
        inputs: Sealed directories by the name of the stage that made them.
        workdir: Gets the output, and keeps what lets a killed stage continue.
        services: Where the stage is tracked and its output published.
        force: Run even though the output is there.
        shard: Do this share of the stage's work and seal it as a part; None for the whole stage.
        parts: Sealed parts of the whole stage, which begins with them and with those in the work directory.

    Returns:
        The reference to the published output.

    Raises:
        InputError: An input that the stage needs is not given.
        SealError: An input is broken, or the stage's own output was changed after its seal.
        QuarantineError: More records were set aside than `config.max_quarantine_share`.
        BusyError: Another process works at this stage.
        StageError: The stage failed.
        Preempted: SIGTERM or Ctrl-C arrived; the same call continues.
    """
    name = shard.name(config.stage) if shard else config.stage
    # A killed run's last process may need a moment to go.
    with _stoppable(), workdir.lock(name, wait_s=5), rare_garbage_collection():
        state = StageState(name, "running", os.getpid(), started_at=_process_start(), key_metric=config.key_metric)
        workdir.write_state(state)
        attempt = _Attempt(config, inputs, workdir, services, state, shard, parts)
        try:
            return attempt.execute(force=force)
        except BaseException as error:
            attempt.record_failure(error)
            raise


class _Attempt:
    """Attempt at one stage, or at one shard of it; `name` is the name of its output."""

    def __init__(
        self,
        config: StageConfig,
        inputs: Mapping[str, Path],
        workdir: WorkDir,
        services: Services,
        state: StageState,
        shard: Shard | None,
        parts: Sequence[Path],
    ) -> None:
        self.name = state.stage
        self.shard = shard
        self.parts = parts
        self.config = config
        self.inputs = inputs
        self.workdir = workdir
        self.services = services
        self.state = state
        self.run: StageRun | None = None

    def execute(self, *, force: bool) -> Reference:
        identities = {name: verify(path).identity for name, path in self.inputs.items()}
        external = describe_external(self.config)
        code = code_of(type(self.config))
        work = Work(self.config.stage, self.config.digest(), code.digest, identities, external)
        key = work.key(self.name)
        manifest = None if force else self._finished(key)
        status: Status = "unchanged" if manifest else "done"
        if manifest is None:
            manifest = self._make(work, code)
        reference = self._publish(manifest)
        self._record_success(manifest, status)
        for leftover in (self._replaced, self.workdir.scratch(self.name, key).parent):
            shutil.rmtree(leftover, ignore_errors=True)
        return reference

    def _finished(self, key: str) -> Manifest | None:
        """Returns the manifest of the output if it has this `key`, in place or sealed in staging."""
        staging, output = self.workdir.staging(self.name), self.workdir.output(self.name)
        for directory in (output, staging):
            try:
                if not directory.is_dir() or read_manifest(directory).key != key:
                    continue
            except SealError:
                if directory == output:
                    raise
                continue
            manifest = verify(directory)
            if directory == staging:
                self._put_in_place()
            return manifest
        return None

    def _make(self, work: Work, code: Code) -> Manifest:
        staging = self.workdir.staging(self.name)
        shutil.rmtree(staging, ignore_errors=True)
        out = StageOutput(staging, self.workdir.scratch(self.name, work.key(self.name)))
        self.state.report = str(out.directory)
        self.workdir.write_state(self.state)
        self._start_tracking(work.inputs).follow(out.directory / "series.jsonl")
        # A stage that talks to MLflow itself, and the libraries it uses, find the server where they look for it.
        os.environ["MLFLOW_TRACKING_URI"] = self.services.tracking_uri
        os.environ["MLFLOW_EXPERIMENT_NAME"] = self.services.experiment
        started = time.perf_counter()
        try:
            with default_garbage_collection():
                run, extra = self._run_function(), self._share(work)
                run(self.config, **self.inputs, **extra, out=out)
        finally:
            self.state.run_s = time.perf_counter() - started
        if self.shard is None:
            # Bad records may lie together: what share is too large is judged by the whole.
            self._check_quarantine(out)
        manifest = seal(
            staging,
            stage=self.name,
            config=self.config,
            code=code,
            image_digest=os.environ.get("PATHOFLOW_IMAGE_DIGEST"),
            inputs=work.inputs,
            external_files=work.external_files,
            counts=Counts(num_in=out.num_in, num_out=out.num_out, quarantined=dict(sorted(out.quarantined.items()))),
            metrics=out.metrics,
            notes=out.notes,
        )
        self._put_in_place()
        return manifest

    def _share(self, work: Work) -> dict[str, Any]:
        """Returns the arguments that only a divisible stage gets: its shard, or the parts to begin with."""
        if self.shard is not None:
            return {"shard": self.shard}
        return {"parts": parts_of(work, self.parts, self.workdir.root)} if self.config.can_shard else {}

    def _run_function(self) -> Callable[..., None]:
        """Returns the stage's `run`, or `run_shard`, after checking that it gets every input that it needs."""
        module = importlib.import_module(f"{stage_package(type(self.config))}.stage")
        run: Callable[..., None] = module.run if self.shard is None else module.run_shard
        needed = {name for name, given in inspect.signature(run).parameters.items() if given.default is given.empty}
        if missing := sorted(needed.intersection(self.config.inputs) - self.inputs.keys()):
            raise InputError(
                f"{self.config.stage} needs the sealed output of {', '.join(missing)}, which is not in "
                f"{self.workdir.root}. Run {missing[0]} first."
            )
        return run

    def _put_in_place(self) -> None:
        """Swaps the sealed staging directory in for the old output, which goes at the very end."""
        staging, output = self.workdir.staging(self.name), self.workdir.output(self.name)
        if output.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)
            output.rename(self._replaced)
        staging.rename(output)
        sync_directory(output.parent)

    @property
    def _replaced(self) -> Path:
        return self.workdir.staging(f"{self.name}.replaced")

    def _check_quarantine(self, out: StageOutput) -> None:
        num_quarantined = sum(out.quarantined.values())
        tolerated = self.config.max_quarantine_share
        if num_quarantined / max(out.num_in, 1) <= tolerated:
            return
        listing = self.workdir.state / f"{self.config.stage}.{QUARANTINE_FILE}"
        shutil.copyfile(out.path / QUARANTINE_FILE, listing)
        reasons = ", ".join(f"{reason} {count}" for reason, count in out.quarantined.most_common(5))
        raise QuarantineError(
            f"{self.config.stage} set {num_quarantined} of {out.num_in} records aside ({reasons}); the recipe "
            f"tolerates a share of {tolerated:g}. See {listing}, mend the inputs, or raise "
            f"{self.config.stage}.max_quarantine_share."
        )

    def _start_tracking(self, identities: dict[str, str]) -> StageRun:
        from pathoflow.stores.tracking import Tracker

        tracker = Tracker(self.services.tracking_uri, self.services.experiment)
        self.run = tracker.stage_run(
            self.name,
            f"{self.workdir.id}/{self.name}",
            run_id=os.environ.get("MLFLOW_RUN_ID"),
            parent_run_id=_pipeline_run(tracker, self.workdir),
        )
        self.state.mlflow_run_id = self.run.run_id
        self.run.log_config(self.config.resolved())
        digests = {name: self._input_digest(name) or identity for name, identity in identities.items()}
        self.run.log_inputs({name: (digests[name], identity) for name, identity in identities.items()})
        return self.run

    def _input_digest(self, name: str) -> str | None:
        path = self.workdir.reference(name)
        return Reference.model_validate_json(path.read_bytes()).dvc_md5 if path.is_file() else None

    def _publish(self, manifest: Manifest) -> Reference:
        """Versions data in DVC and logs models to MLflow, once per identity."""
        stage, output = self.name, self.workdir.output(self.name)
        path = self.workdir.reference(stage)
        remote = self.services.dvc_remote if manifest.kind == "data" else None
        if path.is_file():
            published = Reference.model_validate_json(path.read_bytes())
            if published.identity == manifest.identity and published.dvc_remote == remote and self.run is None:
                return published
        from pathoflow.stores.tracking import MODEL_PATH

        facts: dict[str, Any] = {"stage": stage, "kind": manifest.kind, "identity": manifest.identity}
        if remote:
            from pathoflow.stores.versioning import DvcStore

            facts |= {"dvc_remote": remote, "dvc_md5": DvcStore(self.workdir.dvc, remote).push(output, stage)}
        # Without a run here, an earlier attempt sealed the output and died before it could publish it.
        run = self.run or self._start_tracking(manifest.inputs)
        if manifest.kind == "model":
            facts["model_uri"] = run.artifact_uri(MODEL_PATH)
        reference = Reference(**facts, run_id=run.run_id)
        log_output(run, manifest, output, log_model=manifest.kind == "model", reference=reference.model_dump_json())
        write_atomically(path, reference.model_dump_json(indent=2))
        # What happens from here on is no failure of the run that made the output.
        self.run = None
        return reference

    def _record_success(self, manifest: Manifest, status: Status) -> None:
        self.state.status = status
        describe(self.state, manifest)
        self._record_end()

    def record_failure(self, error: BaseException) -> None:
        """Records the error in the stage's state and in its MLflow run."""
        stopped = isinstance(error, Preempted | KeyboardInterrupt)
        self.state.status = "stopped" if stopped else "failed"
        self.state.error = explain(error, self.name, self.workdir)
        self.state.exit_code = exit_code_of(error)
        # What failed the stage, a full disk or a server that is gone, may well fail its last words, too. The run that
        # then stays open is ended by the next attempt.
        with _without_hiding_the_cause():
            self._record_end()
        with _without_hiding_the_cause():
            if self.run is not None:
                self.run.abort("KILLED" if stopped else "FAILED", self.state.error)

    def _record_end(self) -> None:
        self.state.ended_at = now()
        self.state.total_s = self.state.ended_at - self.state.started_at
        self.workdir.write_state(self.state)


def exit_code_of(error: BaseException) -> int:
    """Returns the exit code of a command that ends with this error."""
    if isinstance(error, KeyboardInterrupt):
        return Preempted.exit_code
    return error.exit_code if isinstance(error, PathoflowError) else StageError.exit_code


def disk_is_full(error: BaseException | None) -> bool:
    """Returns whether a full disk caused an error: libraries wrap it, and SQLite says it only in words."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in ("No space left on device", "disk is full", "Disk quota exceeded")):
            return True
        error = error.__cause__ or error.__context__
    return False


def describe(state: StageState, manifest: Manifest) -> StageState:
    """Copies the output's manifest into a stage's state, and returns it."""
    state.num_in, state.num_out = manifest.counts.num_in, manifest.counts.num_out
    state.num_quarantined = sum(manifest.counts.quarantined.values())
    state.metrics, state.notes = manifest.metrics, manifest.notes
    state.identity = manifest.identity
    return state


def explain(error: BaseException, stage: str, workdir: WorkDir) -> str:
    """Explains an error to the user: what happened, where, and what to do."""
    if isinstance(error, PathoflowError):
        return str(error)
    if disk_is_full(error):
        where = getattr(error, "filename", None) or f"to {workdir.root}"
        return f"The disk is full: {stage} could not write {where}. Free some space and run the same command again."
    if isinstance(error, MemoryError):
        return f"{stage} ran out of memory. Lower its batch size or workers, or give it more memory."
    if isinstance(error, KeyboardInterrupt):
        return _STOPPED
    return f"{stage} failed: {type(error).__name__}: {error}. The traceback is in {workdir.log_file}."


def _pipeline_run(tracker: Tracker, workdir: WorkDir) -> str | None:
    """Returns the MLflow run of the whole pipeline, started by the first stage that has something to log."""
    run = workdir.read_run()
    if run is None:
        return None
    if run.mlflow_run_id is None and run.status == "running":
        # Shards start at the same time, and one of them is the first.
        with workdir.lock("pipeline-run", wait_s=60):
            run = workdir.read_run() or run
            if run.mlflow_run_id is None:
                tags = {"pathoflow.recipe": run.recipe, "pathoflow.run": run.id}
                run.mlflow_run_id = tracker.start_run(run.recipe, f"{workdir.id}/pipeline", tags)
                workdir.write_run(run)
    return run.mlflow_run_id


def _process_start() -> float:
    """Returns when this process started, so that imports count as overhead of the stage."""
    import psutil

    return float(psutil.Process().create_time())


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turns SIGTERM and Ctrl-C in the main thread into `Preempted`.

    Both travel as `KeyboardInterrupt`: a stage that catches `Exception` around one bad record lets it through.
    """
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        raise Preempted(_STOPPED) from None
    finally:
        STOP_REQUESTED.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _without_hiding_the_cause() -> Iterator[None]:
    """Prints an error that comes while another is handled, and lets the first one through."""
    try:
        yield
    except Exception as error:
        print(f"The failure could not be recorded: {type(error).__name__}: {error}"[:500], file=sys.stderr)
