"""Hands a stage's request to the launcher beside it, without importing the Kubernetes client."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pathoflow.cluster.trainjob_spec import TrainJobRequest, WorkerCommand
from pathoflow.system.files import write_atomically


@dataclass(frozen=True)
class LaunchRequest:
    """Request of the stage's process to the launcher, written to a file.

    Attributes:
        request: Resources requested from the cluster.
        work: Work of the pods.
        report: Directory of the stage's progress and of the TrainJob's manifest.
        outcome: File for the message of an error.
    """

    request: TrainJobRequest
    work: WorkerCommand
    report: Path
    outcome: Path

    def write(self, file: Path) -> None:
        """Writes the launch file."""
        launch: dict[str, Any] = {"request": self.request.model_dump(), "work": asdict(self.work)}
        launch |= {"report": self.report, "outcome": self.outcome}
        write_atomically(file, json.dumps(launch, default=str))

    @classmethod
    def load(cls, file: Path) -> LaunchRequest:
        """Reads a request that `write` wrote."""
        launch = json.loads(file.read_bytes())
        work = WorkerCommand(**launch["work"] | {"job_file": Path(launch["work"]["job_file"])})
        request = TrainJobRequest.model_validate(launch["request"])
        return cls(request, work, Path(launch["report"]), Path(launch["outcome"]))
