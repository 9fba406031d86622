"""Starts the processes of a training stage with torchrun and watches over them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque

from pathoflow.errors import Preempted, StageError
from pathoflow.training.config import TrainingConfig
from pathoflow.training.job import Job

_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # transformers and trl import MLflow when they find it; the supervising process does the tracking.
    "DISABLE_MLFLOW_INTEGRATION": "TRUE",
    "PYTHONUNBUFFERED": "1",
}
_LAST_LINES = 30


def torchrun(module: str, job: Job, config: TrainingConfig, *, offline: bool = True) -> None:
    """Runs `python -m module <job file>` in `config.num_processes` processes and waits until all have ended.

    The processes die with this one, however it ends. When this process is told to stop (SIGTERM), the workers
    are told, too, and get `config.checkpoint_grace_s` seconds to write a checkpoint.

    Args:
        module: The worker's module.
        job: What to do.
        config: How many processes, with how many threads.
        offline: Forbid downloads from the model hub.

    Raises:
        Preempted: The workers stopped on request, after a checkpoint.
        StageError: A worker failed; the message holds its last lines of output.
    """
    job.preempted.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pathoflow.training.agent", str(os.getpid()), "--standalone"]
    command += ["--nproc_per_node", str(config.num_processes), "--shutdown_timeout", str(config.checkpoint_grace_s)]
    command += ["-m", "pathoflow.training.process", module, str(job.file)]
    environment = os.environ | _ENVIRONMENT | {"OMP_NUM_THREADS": str(config.threads_per_process)}
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        _relay(child, last_lines)
    except BaseException:
        child.terminate()
        _relay(child, last_lines)
        raise
    if job.preempted.exists():
        raise Preempted("Training stopped on request after a checkpoint. Run the same command again to continue.")
    if child.returncode != 0:
        raise StageError(
            f"{module} failed with exit code {child.returncode}. Its last lines:\n{''.join(last_lines).rstrip()}"
        )


def _relay(child: subprocess.Popen[str], last_lines: deque[str]) -> None:
    """Passes the child's output on until it ends."""
    assert child.stdout is not None
    for line in child.stdout:
        last_lines.append(line)
        sys.stderr.write(line)
    child.wait()
