"""Starts the worker processes of a training stage: with torchrun on this machine, or as a TrainJob on several nodes."""

from __future__ import annotations

from pathoflow.cluster.trainjob_spec import TrainJobRequest
from pathoflow.training.config import TrainingConfig
from pathoflow.training.job import Job
from pathoflow.training.multinode import run_trainjob
from pathoflow.training.parallelism import num_gpus
from pathoflow.training.supervision import fit, prepare, supervise


def launch_workers(module: str, job: Job, config: TrainingConfig, *, offline: bool = True) -> None:
    """Runs `python -m module <job file>` in `config.num_processes` processes and waits until all have ended.

    They go on from the newest complete checkpoint, and the curves are cut back to its step. They die with this
    process, however it ends. When this process is told to stop (SIGTERM), they are told, too, and get
    `config.checkpoint_grace_s` seconds to write a checkpoint. Where the recipe asks for several nodes, they are pods of
    a TrainJob, which outlives this process only if that is killed: the next attempt takes it up.

    Args:
        module: The worker's module.
        job: The job to run.
        config: Numbers of processes and threads.
        offline: Forbid downloads from the model hub.

    Raises:
        ConfigError: There are too few GPUs, or the checkpoint belongs to another configuration.
        Preempted: The workers stopped on request, after a checkpoint.
        StageError: A worker failed; the message holds its last lines of output.
        ClusterError: The cluster refuses the TrainJob or cannot run it.
    """
    if request := TrainJobRequest.from_environment():
        run_trainjob(request, module, job, config, offline=offline)
        return
    config, job = fit(job, config, num_gpus())
    job = prepare(job, config)
    job.write()
    here = ["--standalone", "--nproc_per_node", str(config.num_processes)]
    supervise(module, job, config, here, offline=offline)
