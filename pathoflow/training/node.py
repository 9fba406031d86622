"""Runs torchrun in a TrainJob's pod: `python -m pathoflow.training.node <module> <config> <job file> <digest> offline`.

It starts torchrun, whose other nodes and whose number of processes Kubeflow Trainer tells by PET_* variables, and exits
with 75 if the run was stopped on request. The first node that fails leaves its last words on the shared volume.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from pathoflow.cluster.trainjob_spec import ATTEMPT, failure_file
from pathoflow.errors import ClusterError, ConfigError, PathoflowError, Preempted, StageError, Standstill
from pathoflow.system.files import sha256_of_file
from pathoflow.system.processes import interrupt
from pathoflow.training.config import TrainingConfig
from pathoflow.training.job import Job
from pathoflow.training.parallelism import num_gpus
from pathoflow.training.supervision import prepare, supervise

# Kubernetes keeps the last 4096 bytes of it with the pod.
_TERMINATION_LOG = Path("/dev/termination-log")
_TERMINATION_BYTES = 4000
# Network file systems show other nodes' files after some seconds; nodes pull their images at different speeds.
_VISIBLE_S, _POLL_S = 60.0, 0.5
_RENDEZVOUS_S = 1800


def run(module: str, config_type: str, file: Path, digest: str, *, offline: bool) -> None:
    """Trains in this node's share of the processes.

    Raises:
        ClusterError: This node does not see the launcher's job, or was not started as one of several.
        ConfigError: It has too few GPUs, or the checkpoint belongs to another configuration.
        Preempted: The workers stopped on request, after a checkpoint.
        Standstill: They ended themselves, because they waited for each other in vain or could not stop in time.
        StageError: A worker failed.
    """
    job = _shared_job(file, digest)
    module_name, _, class_name = config_type.partition(":")
    config: TrainingConfig = job.settings(getattr(importlib.import_module(module_name), class_name))
    node = _check_node(config)
    attempt = file.with_name(f"attempt-{os.environ.get(ATTEMPT, '')}.json")
    if node == 0:
        # torchrun lets no worker start anywhere before this node's torchrun is there.
        shutil.rmtree(job.output, ignore_errors=True)
        job.output.mkdir(parents=True)
        prepare(job, config).write(attempt)
    options = ["--rdzv_conf", f"timeout={_RENDEZVOUS_S}"]
    supervise(module, job, config, options, offline=offline, file=attempt, node=node)


def _shared_job(file: Path, digest: str) -> Job:
    """Loads the job that the launcher wrote, once this node sees it."""
    deadline = time.monotonic() + _VISIBLE_S
    found = ""
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            found = sha256_of_file(file)
        if found == digest:
            return Job.load(file)
        time.sleep(_POLL_S)
    seen = "another one" if found else "none"
    raise ClusterError(
        f"The launcher wrote the job {file}, and {socket.gethostname()} sees {seen} there. All pods must mount the same"
        " claim, ReadWriteMany, at the same path: see the TrainingRuntimes in manifests/components/trainjobs."
    )


def _check_node(config: TrainingConfig) -> int:
    """Returns this node's number, after checking that the nodes make up the whole run."""
    try:
        node, nodes, here = (int(os.environ[f"PET_{name}"]) for name in ("NODE_RANK", "NNODES", "NPROC_PER_NODE"))
    except (KeyError, ValueError) as error:
        raise ClusterError(
            "The variables PET_NODE_RANK, PET_NNODES and PET_NPROC_PER_NODE do not say which node this is. The "
            "TrainingRuntime must have mlPolicy.torch: see manifests/components/trainjobs."
        ) from error
    if nodes * here != config.num_processes:
        raise ClusterError(
            f"{nodes} nodes with {here} processes each are not the {config.num_processes} processes of {config.stage}. "
            "Something between the launcher and this pod changed the TrainJob."
        )
    gpus = num_gpus()
    if gpus < here and (gpus or config.needs_gpus):
        raise ConfigError(
            f"Node {node} ({socket.gethostname()}) has {gpus} GPUs for {here} processes. Ask for as many in the "
            "recipe's compute.gpus_per_node, and see that the device plugin runs on that node."
        )
    return node


def _leave_last_words(file: Path, error: PathoflowError) -> None:
    """Writes the error to the shared volume, unless another node was first, and to the pod's termination log."""
    told = {
        "pod": socket.gethostname(),
        "exit_code": error.exit_code,
        "message": str(error),
    }
    own = file.with_name(f".{told['pod']}-{os.getpid()}")
    with suppress(OSError):
        own.write_text(json.dumps(told))
        with suppress(FileExistsError):
            failure_file(file.parent, os.environ.get(ATTEMPT, "")).hardlink_to(own)
        own.unlink()
    if _TERMINATION_LOG.exists():
        with suppress(OSError):
            _TERMINATION_LOG.write_bytes(str(error).encode()[-_TERMINATION_BYTES:])


def main(arguments: list[str]) -> int:
    """Runs this node and returns its exit code."""
    module, config_type, job_file, digest, mode = arguments
    file = Path(job_file)
    try:
        run(module, config_type, file, digest, offline=mode == "offline")
    except Standstill as error:
        print(error, file=sys.stderr)
        _leave_last_words(file, error)
        return error.exit_code
    except (Preempted, KeyboardInterrupt):
        print("Stopped on request.", file=sys.stderr)
        return Preempted.exit_code
    except Exception as error:
        if not isinstance(error, PathoflowError):
            traceback.print_exception(error)
            error = StageError(f"{type(error).__name__}: {error}")
        print(f"error: {error}", file=sys.stderr)
        _leave_last_words(file, error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    sys.exit(main(sys.argv[1:]))
