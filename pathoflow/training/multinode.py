"""Trains on several nodes: a small launcher beside this process starts a TrainJob and watches it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pathoflow.cluster.launch_request import LaunchRequest
from pathoflow.cluster.trainjob_spec import RUN_ID, TrainJobRequest, WorkerCommand
from pathoflow.errors import ConfigError, error_of
from pathoflow.training.config import TrainingConfig
from pathoflow.training.job import Job
from pathoflow.training.supervision import fit

# Where weights come from; none of them is secret.
_PASSED_ON = ("HF_HOME", "HF_ENDPOINT")


def run_trainjob(
    request: TrainJobRequest, module: str, job: Job, config: TrainingConfig, *, offline: bool = True
) -> None:
    """Runs the job as a TrainJob, and copies its output.

    Everything that this process writes is the same in each attempt, since an attempt may take up a job that is running
    already. The first pod determines what differs between starts: the checkpoint to resume from.

    Args:
        request: Resources requested from the cluster.
        module: The worker's module.
        job: The job to run.
        config: Numbers of processes on all nodes together, and of threads.
        offline: Forbid downloads from the model hub.

    Raises:
        ConfigError: There are too few GPUs, or the nodes cannot share the processes.
        ClusterError: The cluster refuses it or cannot run it.
        Preempted: The pods stopped on request, or a node was lost.
        StageError: A worker failed; the message holds its last lines of output.
    """
    config, for_pods = fit(job, config, request.nodes * request.gpus_per_node, request.nodes)
    # Not the staging directory: each attempt begins with an empty one, while the pods of the last may still write.
    for_pods = dataclasses.replace(for_pods, output=job.scratch / "output")
    content = for_pods.text()
    digest = hashlib.sha256(content.encode()).hexdigest()
    file = job.scratch / f"job-{digest[:16]}.json"
    for_pods.write(file)
    run_id = os.environ.get(RUN_ID)
    if not run_id:
        raise ConfigError(f"{RUN_ID} is not set: it tells the TrainJobs of one pipeline run from those of another.")
    work = WorkerCommand(
        stage=config.stage,
        run_id=run_id,
        module=module,
        config_type=f"{type(config).__module__}:{type(config).__qualname__}",
        job_file=file,
        job_digest=digest,
        processes_per_node=config.processes_per_node(request.nodes),
        grace_s=config.checkpoint_grace_s,
        offline=offline,
        environment={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    )
    _launch(LaunchRequest(request, work, job.report, job.scratch / f"outcome-{os.getpid()}.txt"))
    shutil.copytree(for_pods.output, job.output, copy_function=_link_or_copy, dirs_exist_ok=True)


def _launch(launch: LaunchRequest) -> None:
    """Runs the launcher in a process of its own, and stops it when this one is told to stop."""
    file = launch.outcome.with_name(f"launch-{os.getpid()}.json")
    launch.write(file)
    command = [sys.executable, "-m", "pathoflow.cluster.launcher", str(os.getpid()), str(file)]
    child = subprocess.Popen(command, start_new_session=True)
    try:
        code = child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    words = launch.outcome.read_text() if launch.outcome.is_file() else ""
    for leftover in (file, launch.outcome):
        leftover.unlink(missing_ok=True)
    if code != 0:
        words = (
            words or f"The launcher of {launch.work.stage} ended with exit code {code} and said nothing. Run it again."
        )
        raise error_of(code, words)


def _link_or_copy(source: str, target: str) -> None:
    """Hard-links a file, or copies it to another volume: gigabytes of weights need not be copied within one."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
