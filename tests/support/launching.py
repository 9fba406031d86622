"""The launcher of TrainJobs as the process that it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pathoflow.cluster.launch_request import LaunchRequest
from pathoflow.cluster.trainjob_spec import TrainJobRequest, WorkerCommand, manifest
from pathoflow.errors import PathoflowError, error_of
from tests.support.kube import wait_until

ROOT = str(Path(__file__).parents[2])


class Launched:
    """A launcher that runs.

    Args:
        launch: What it is to start.
        kubeconfig: Where.
        environment: More variables for it.
    """

    def __init__(self, launch: LaunchRequest, kubeconfig: Path, environment: dict[str, str] | None = None) -> None:
        self.launch = launch
        self.name = str(manifest(launch.request, launch.work, None, "")["metadata"]["name"])
        self.title = f"TrainJob {launch.request.namespace}/{self.name}"
        self._log = launch.outcome.with_suffix(".log")
        given = {"KUBECONFIG": str(kubeconfig), "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
        file = launch.outcome.with_suffix(".json")
        launch.write(file)
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pathoflow.cluster.launcher", str(os.getpid()), str(file)],
                env=os.environ | given | (environment or {}),
                cwd=ROOT,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )

    def said(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def wait_for(self, words: str, timeout_s: float = 60.0) -> None:
        """Waits until it has said something."""

        def found() -> bool:
            assert words in self.said() or self.process.poll() is None, f"{self.error()!r}\n{self.said()}"
            return words in self.said()

        wait_until(found, timeout_s)

    def end(self, timeout_s: float = 60.0) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(timeout_s)

    def error(self, timeout_s: float = 60.0) -> PathoflowError | None:
        """The error with which it ended; None if it succeeded."""
        code = self.end(timeout_s)
        words = self.launch.outcome.read_text() if self.launch.outcome.is_file() else self.said()
        return error_of(code, words) if code else None

    def terminate(self) -> None:
        """Asks it to stop."""
        self.process.send_signal(signal.SIGTERM)


class Launchpad:
    """Starts launchers, and kills those that are left at the end.

    Args:
        folder: For their files.
        kubeconfig: Of the cluster where they start TrainJobs.
        namespace: The namespace there.
    """

    def __init__(self, folder: Path, kubeconfig: Path, namespace: str) -> None:
        self._folder, self._kubeconfig, self._namespace = folder, kubeconfig, namespace
        self._launched: list[Launched] = []

    def launch(self, **request: Any) -> LaunchRequest:
        """What to start: a training of its own over two nodes."""
        folder = self._folder / uuid.uuid4().hex[:8]
        folder.mkdir(parents=True)
        asked = {"nodes": 2, "image": "train", "namespace": self._namespace} | request
        work = WorkerCommand(
            stage="toy",
            run_id=folder.name,
            module="tests.support.toy_training.worker",
            config_type="tests.support.toy_training.config:ToyTrainingConfig",
            job_file=folder / "job.json",
            job_digest="ab" * 32,
            processes_per_node=1,
            grace_s=20,
        )
        return LaunchRequest(TrainJobRequest.model_validate(asked), work, folder / "report", folder / "outcome.txt")

    def start(
        self,
        launch: LaunchRequest | None = None,
        *,
        kubeconfig: Path | None = None,
        environment: dict[str, str] | None = None,
        **request: Any,
    ) -> Launched:
        """A launcher that has just been started."""
        launched = Launched(launch or self.launch(**request), kubeconfig or self._kubeconfig, environment)
        self._launched.append(launched)
        return launched

    def again(self, launched: Launched, **more: Any) -> Launched:
        """Another launcher that is told to start the same."""
        launch = launched.launch
        number = len(self._launched)
        launch = LaunchRequest(
            launch.request, launch.work, launch.report, launch.outcome.with_name(f"outcome-{number}.txt")
        )
        return self.start(launch, **more)

    def close(self) -> None:
        for launched in self._launched:
            launched.process.kill()
            launched.process.wait()


@contextmanager
def launchpad(folder: Path, kubeconfig: Path, namespace: str) -> Iterator[Launchpad]:
    """A launchpad for the length of a `with` block."""
    pad = Launchpad(folder, kubeconfig, namespace)
    try:
        yield pad
    finally:
        pad.close()
