"""Runs torchrun on one node, relays its output and turns its end into an error that says what to do."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path

from pathoflow.contract.output import Reporter
from pathoflow.errors import Preempted, StageError, Standstill
from pathoflow.training import hang_reports
from pathoflow.training.checkpoints import step_of
from pathoflow.training.config import TrainingConfig
from pathoflow.training.job import Job
from pathoflow.training.parallelism import fit_to_gpus
from pathoflow.training.resume import find_checkpoint

_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # transformers and trl import MLflow when they find it; the supervising process does the tracking.
    "DISABLE_MLFLOW_INTEGRATION": "TRUE",
    "PYTHONUNBUFFERED": "1",
    # Libraries tell each other of these at every step.
    "PYTHONWARNINGS": "ignore::FutureWarning",
}
_LAST_LINES = 30
# How torchrun marks the lines of each process.
_RANK = re.compile(r"^\[[a-z]*(\d+)\]:")


def fit(job: Job, config: TrainingConfig, gpus: int, nodes: int = 1) -> tuple[TrainingConfig, Job]:
    """Fits the configuration, and the job with it, to the GPUs of all nodes.

    Raises:
        ConfigError: There are too few.
    """
    fitted = fit_to_gpus(config, gpus, nodes)
    notes = {}
    if fitted.num_processes != config.num_processes:
        notes["processes"] = (
            f"{fitted.num_processes} instead of {config.num_processes}, with {fitted.gradient_accumulation_steps} "
            f"forward passes per step instead of {config.gradient_accumulation_steps}"
        )
        print(f"Fewer GPUs than asked for; processes: {notes['processes']}.", file=sys.stderr)
    return fitted, dataclasses.replace(job, config=fitted.resolved(), notes=notes)


def prepare(job: Job, config: TrainingConfig) -> Job:
    """Finds the checkpoint to resume from, and cuts the curves back to it.

    Raises:
        ConfigError: The checkpoint belongs to another configuration, or to processes that cannot hand over.
    """
    job = find_checkpoint(job, config)
    Reporter(job.report).cut_back(step_of(job.checkpoint) if job.checkpoint else -1)
    return job


def supervise(
    module: str,
    job: Job,
    config: TrainingConfig,
    where: Sequence[str],
    *,
    offline: bool,
    file: Path | None = None,
    node: int = 0,
) -> None:
    """Runs torchrun on one node, relays its output and waits for its end.

    Args:
        module: The worker's module.
        job: The job to run.
        config: Number of threads, and longest time of a checkpoint.
        where: torchrun's options about processes and nodes.
        offline: Forbid downloads from the model hub.
        file: The job's file; default: its own.
        node: This node's number.

    Raises:
        Preempted: The workers stopped on request, after a checkpoint.
        Standstill: They ended themselves, because they waited for each other in vain or could not stop in time.
        StageError: A worker failed; the message holds its last lines of output.
    """
    hang_reports.forget(job.scratch)
    failure = job.scratch / f"failure-of-node-{node}.json"
    failure.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pathoflow.training.torchrun_agent", str(os.getpid()), str(failure), *where]
    command += ["--shutdown_timeout", str(config.checkpoint_grace_s)]
    command += ["--tee", "3", "--log-dir", str(job.scratch / "logs")]
    command += ["-m", "pathoflow.training.worker_bootstrap", module, str(file or job.file)]
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
    last_lines: dict[int, deque[str]] = defaultdict(lambda: deque(maxlen=_LAST_LINES))
    try:
        _relay(child, last_lines)
    except BaseException:
        child.terminate()
        _relay(child, last_lines)
        _raise_standstill(job, config)
        raise
    if child.returncode != 0:
        # Whatever the processes ended with: those that lost their peers fail in their own ways.
        _raise_standstill(job, config)
    if child.returncode == Preempted.exit_code:
        raise Preempted("Training stopped on request after a checkpoint. Run the same command again to continue.")
    if child.returncode != 0:
        raise StageError(_last_words(module, failure, config.num_processes, child.returncode, last_lines))


def _raise_standstill(job: Job, config: TrainingConfig) -> None:
    """Raises `Standstill` if the workers reported that they ended themselves."""
    if found := hang_reports.reports(job.scratch):
        limits = config.collective_timeout_s, config.checkpoint_grace_s
        raise Standstill(hang_reports.explain(found, config.num_processes, config.stage, *limits)) from None


def _relay(child: subprocess.Popen[str], last_lines: dict[int, deque[str]]) -> None:
    """Relays the child's output until it ends; keeps the last lines of each process, and torchrun's as -1."""
    assert child.stdout is not None
    for line in child.stdout:
        marked = _RANK.match(line)
        last_lines[int(marked[1]) if marked else -1].append(line[marked.end() :] if marked else line)
        sys.stderr.write(line)
    child.wait()


def _last_words(
    module: str, failure_file: Path, num_processes: int, exit_code: int, last_lines: dict[int, deque[str]]
) -> str:
    """Describes the failure of the process that failed first, with its last lines."""
    place, ended = -1, f"failed with exit code {exit_code}"
    if failure_file.is_file():
        failure = json.loads(failure_file.read_bytes())
        rank, place, code = failure["rank"], failure["local_rank"], failure["exit_code"]
        ended = f"failed in process {rank} of {num_processes}, which ended with exit code {code}"
        if code < 0:
            ended = f"failed in process {rank} of {num_processes}, which was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            ended += " (the system does that when memory runs out)"
    words = "".join(last_lines[place]).rstrip() or "(it printed nothing)"
    return f"{module} {ended}. Its last lines:\n{words}"
