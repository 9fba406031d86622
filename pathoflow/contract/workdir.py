"""Lays out a work directory: one folder per stage, the stores, and the state of the run.

```
DIR/
├── <stage>/            the stage's sealed output
├── <stage>.shard-i-of-n/   the sealed part of one shard, where the recipe divides the stage
├── mlflow/             tracking store (SQLite) and artifacts
├── dvc/                cache and remote
└── .pathoflow/
    ├── run.json        the run in progress or the last one: recipe, overrides, selection
    ├── pipeline.yaml   the compiled pipeline of that run
    ├── run.log         what the stages printed
    ├── stages/         state of each stage
    ├── references/     what travels between stages
    ├── staging/        outputs being made
    ├── scratch/        checkpoints and finished parts of unfinished stages
    ├── fetched/        outputs of other work directories, downloaded by reference
    └── id              a name that no other work directory has
```
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from pathoflow.errors import BusyError
from pathoflow.system.files import write_atomically

Status = Literal["waiting", "running", "done", "unchanged", "failed", "stopped"]


@dataclass
class StageState:
    """State of a stage for the command line. Times in seconds since the epoch, durations in seconds."""

    stage: str
    status: Status = "waiting"
    pid: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    run_s: float = 0.0
    total_s: float = 0.0
    num_in: int = 0
    num_out: int = 0
    num_quarantined: int = 0
    key_metric: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    identity: str | None = None
    mlflow_run_id: str | None = None
    report: str | None = None
    error: str | None = None
    exit_code: int = 0


@dataclass
class RunRecord:
    """Content of `run.json`: the request of a run, and its progress.

    Attributes:
        id: The UTC time at which the run began.
        digest: Digest of the plan; a run with the same plan continues one that did not finish.
        stages: In the order in which they run; the shards of a stage stand before it.
        kept: Stages whose outputs are handed on as they are.
        forced: Stages that run even though their output is there.
        mlflow_run_id: The run that the stages' runs are nested in, once a stage had something to log.
    """

    id: str
    recipe: str
    digest: str
    stages: list[str]
    kept: list[str]
    forced: list[str]
    overrides: list[str]
    started_at: float
    ended_at: float = 0.0
    status: Literal["running", "finished", "failed"] = "running"
    mlflow_run_id: str | None = None


class WorkDir:
    """Paths and state of one work directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.state = self.root / ".pathoflow"

    def create(self) -> None:
        """Creates the folders that every run needs."""
        for name in ("stages", "references", "staging", "scratch"):
            (self.state / name).mkdir(parents=True, exist_ok=True)

    @property
    def id(self) -> str:
        """Name that no other work directory has; it stays when this one is moved."""
        path = self.state / "id"
        if not path.is_file():
            write_atomically(path, uuid.uuid4().hex)
        return path.read_text()

    def output(self, stage: str) -> Path:
        """Returns the path of a stage's sealed output."""
        return self.root / stage

    def staging(self, stage: str) -> Path:
        """Returns the path where a stage's output is made."""
        return self.state / "staging" / stage

    def scratch(self, stage: str, key: str) -> Path:
        """Returns the path of what survives a kill of a stage, for one key."""
        return self.state / "scratch" / stage / key.removeprefix("sha256:")[:16]

    def reference(self, stage: str) -> Path:
        """Returns the path of the reference to a stage's published output."""
        return self.state / "references" / f"{stage}.json"

    @property
    def run_file(self) -> Path:
        """The description of the run in progress or the last one."""
        return self.state / "run.json"

    @property
    def pipeline_file(self) -> Path:
        """The compiled pipeline of the run in progress or the last one."""
        return self.state / "pipeline.yaml"

    @property
    def log_file(self) -> Path:
        """Log of the stages' output."""
        return self.state / "run.log"

    @property
    def mlflow(self) -> Path:
        """The local MLflow store."""
        return self.root / "mlflow"

    @property
    def tracking_uri(self) -> str:
        """The tracking URI of the local MLflow store."""
        return f"sqlite:///{self.mlflow / 'mlflow.db'}"

    @property
    def dvc(self) -> Path:
        """The local DVC cache and remote."""
        return self.root / "dvc"

    def read_state(self, stage: str) -> StageState:
        """Returns the state of a stage; `waiting` if it never ran."""
        path = self.state / "stages" / f"{stage}.json"
        try:
            return StageState(**json.loads(path.read_text()))
        except FileNotFoundError:
            return StageState(stage)

    def write_state(self, state: StageState) -> None:
        """Replaces the state of a stage."""
        write_atomically(self.state / "stages" / f"{state.stage}.json", json.dumps(asdict(state), indent=2))

    def read_run(self) -> RunRecord | None:
        """Returns the run in progress or the last one."""
        try:
            return RunRecord(**json.loads(self.run_file.read_text()))
        except FileNotFoundError:
            return None

    def write_run(self, run: RunRecord) -> None:
        """Replaces the description of the run."""
        write_atomically(self.run_file, json.dumps(asdict(run), indent=2))

    @contextmanager
    def lock(self, name: str = "run", *, wait_s: float = 0.0) -> Iterator[None]:
        """Locks the work directory, or one stage of it; the kernel releases the lock when the process dies.

        Raises:
            BusyError: Another process holds it.
        """
        self.create()
        lock = FileLock(self.state / f"{name}.lock", timeout=wait_s)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(
                f"Another run works in {self.root}. Wait for it (`pathoflow status {self.root}`), "
                "stop it, or use another --workdir."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def is_busy(self) -> bool:
        """Returns whether a run works in this directory now."""
        try:
            with self.lock():
                return False
        except BusyError:
            return True


def now() -> float:
    """Returns the seconds since the epoch."""
    return time.time()
