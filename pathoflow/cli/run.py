"""`pathoflow run`: plans a run, starts it in a process of its own and shows it until it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from components import catalogue
from pathoflow.cli.views import LiveView, print_summary
from pathoflow.contract.config import digest_of
from pathoflow.contract.recipe import Recipe, load_recipe
from pathoflow.contract.sharding import shard_names
from pathoflow.contract.workdir import RunRecord, StageState, WorkDir, now
from pathoflow.errors import ConfigError, InputError, Preempted, StageError
from pathoflow.system.files import write_atomically

_POLL_S = 0.2


@dataclass(frozen=True)
class RunOptions:
    """Options of one `pathoflow run`."""

    recipe: str
    workdir: Path
    books: tuple[Path, ...] = ()
    books_only: bool = False
    overrides: tuple[str, ...] = ()
    only: str | None = None
    from_stage: str | None = None


def run_recipe(options: RunOptions) -> int:
    """Runs a recipe in a work directory and returns the exit code: 0, or that of the stage that failed.

    Raises:
        ConfigError: The recipe or an option is wrong.
        InputError: A file that the recipe reads is missing.
        BusyError: Another run works in the directory.
    """
    recipe = load_recipe(options.recipe, catalogue(), _all_overrides(options))
    for config in recipe.stages.values():
        config.external_files()
    workdir = WorkDir(options.workdir)
    with workdir.lock():
        run = _plan(recipe, options, workdir)
        with _Runner(workdir) as runner:
            view = LiveView(workdir, run.stages)
            with view:
                while runner.wait(_POLL_S) is None:
                    view.update()
        return _conclude(workdir, runner)


def _all_overrides(options: RunOptions) -> list[str]:
    """The user's overrides, with `--books` as what it stands for."""
    overrides = list(options.overrides)
    if options.books:
        quoted = ", ".join("'" + str(path.resolve()).replace("'", "''") + "'" for path in options.books)
        overrides.append(f"textbook_pairs.books=[{quoted}]")
    if options.books_only:
        if not options.books:
            raise ConfigError("--books-only needs at least one --books PATH.")
        overrides.append("textbook_pairs.use_atlas=false")
    return overrides


def _plan(recipe: Recipe, options: RunOptions, workdir: WorkDir) -> RunRecord:
    """Writes the compiled pipeline and `run.json`; an interrupted run of the same plan is continued."""
    from pipelines.compile import ancestors, compile_recipe, descendants, graph_of, restrict

    ir = compile_recipe(recipe)
    graph = graph_of(ir)
    forced: set[str] = set()
    kept: set[str] = set()
    for stage in filter(None, (options.only, options.from_stage)):
        if stage not in graph:
            raise ConfigError(f"{stage} is no stage of recipe {recipe.name}. Stages: {', '.join(graph)}.")
    if options.only and options.from_stage:
        raise ConfigError("--only and --from exclude each other.")
    if options.only:
        forced, kept = {options.only}, ancestors(graph, options.only)
        ir = restrict(ir, forced | kept)
    elif options.from_stage:
        forced = {options.from_stage} | descendants(graph, options.from_stage)
        kept = ancestors(graph, options.from_stage)
    if missing := [stage for stage in graph if stage in kept and not workdir.reference(stage).is_file()]:
        option = "--only" if options.only else "--from"
        raise InputError(
            f"{option} {options.only or options.from_stage} goes on from the outputs of the stages before it, but "
            f"{workdir.root} has none of {', '.join(missing)}. Run without {option} first."
        )
    _check_secrets(recipe, [stage for stage in graph if stage in forced or not (options.only or stage in kept)])
    parts = {stage: shard_names(stage, recipe.compute[stage].shards) for stage in graph}
    forced |= {part for stage in forced for part in parts[stage]}
    run = RunRecord(
        id=datetime.now(UTC).strftime("%Y%m%dT%H%M%S"),
        recipe=recipe.name,
        digest=digest_of([ir, sorted(forced), sorted(kept)]),
        stages=[
            name
            for stage in graph
            if not options.only or stage in forced | kept
            for name in (*(parts[stage] if stage not in kept else ()), stage)
        ],
        kept=sorted(kept),
        forced=sorted(forced),
        overrides=_all_overrides(options),
        started_at=now(),
    )
    before = workdir.read_run()
    done: set[str] = set()
    if before and before.digest == run.digest and before.status != "finished":
        run.id, run.mlflow_run_id = before.id, before.mlflow_run_id
        done = {stage for stage in forced if workdir.read_state(stage).status == "done"}
        run.forced = sorted(forced - done)
    for stage in run.stages:
        if stage not in done:
            workdir.write_state(StageState(stage))
    write_atomically(workdir.pipeline_file, ir)
    workdir.write_run(run)
    return run


def _check_secrets(recipe: Recipe, stages: list[str]) -> None:
    """Refuses to start what would stop for want of a secret, perhaps days later."""
    lacking = [
        f"{stage} needs {secret.variable}"
        for stage in stages
        for secret in recipe.stages[stage].secrets()
        if secret.is_required and not os.environ.get(secret.variable)
    ]
    if lacking:
        raise ConfigError(f"{'; '.join(lacking)}: set it in the environment before the run starts.")


class _Runner:
    """The process that runs the pipeline; SIGTERM and Ctrl-C reach its stage, which checkpoints and stops."""

    def __init__(self, workdir: WorkDir) -> None:
        self._workdir = workdir
        self._stopping = False

    def __enter__(self) -> _Runner:
        self._log = self._workdir.log_file.open("ab")
        command = [sys.executable, "-m", "pipelines.local", str(self._workdir.root), str(os.getpid())]
        # In a session of its own, so that Ctrl-C in the terminal does not reach the stages unannounced.
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def wait(self, timeout_s: float) -> int | None:
        """The exit code of the pipeline if it ended within `timeout_s`."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    @property
    def stopped(self) -> bool:
        """True once the user asked the run to stop."""
        return self._stopping

    def _stop(self, signal_number: int, frame: FrameType | None) -> None:
        self._stopping = True
        running = [state for state in _states(self._workdir) if state.status == "running"]
        for state in running:
            with suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGTERM)
        if not running:
            self._process.terminate()


def _states(workdir: WorkDir) -> Iterator[StageState]:
    if run := workdir.read_run():
        yield from map(workdir.read_state, run.stages)


def _conclude(workdir: WorkDir, runner: _Runner) -> int:
    """Marks the run's end, prints the table and returns the exit code."""
    exit_code = 0
    for state in _states(workdir):
        if state.status == "running":
            state.status, state.exit_code = "failed", StageError.exit_code
            state.error = f"{state.stage} was killed (out of memory?). Run the same command again to continue."
            workdir.write_state(state)
        exit_code = exit_code or state.exit_code
    if runner.wait(0) != 0 and exit_code == 0:
        exit_code = Preempted.exit_code if runner.stopped else StageError.exit_code
    if run := workdir.read_run():
        run.status = "finished" if exit_code == 0 else "failed"
        run.ended_at = now()
        workdir.write_run(run)
    print_summary(workdir)
    return exit_code
