"""Sets up every worker process of a training stage."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import accelerate.utils.other
import datasets
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.distributed.elastic.multiprocessing.errors import record

from pathoflow.errors import StageError
from pathoflow.system.files import sha256_of_file
from pathoflow.training.data_workers import start_fork_server
from pathoflow.training.job import Job
from pathoflow.training.shard_rows import ShardRows
from pathoflow.training.watchdog import backend_timeout, watched


def run_worker(main: Callable[[Job, PartialState], None]) -> None:
    """Runs `main` on the job whose file is the command's only argument, as one of torchrun's processes."""
    for library in (transformers.logging, datasets.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    file = Path(sys.argv[1])
    job = Job.load(file)
    if job.config.get("data_workers"):
        start_fork_server()
    with watched(job):
        _take_part(main, job, file)


def _take_part(main: Callable[[Job, PartialState], None], job: Job, file: Path) -> None:
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=backend_timeout(job.config["collective_timeout_s"]))
    if not job.config.get("deepspeed_stage"):
        # To see whether a model is wrapped in it, accelerate would import DeepSpeed where it is installed: 5 s.
        accelerate.utils.other.is_deepspeed_available = lambda: False
    try:
        # The traceback of the first process that failed is what the stage's error quotes.
        record(_begin)(main, job, file, state)
    finally:
        state.destroy_process_group()


def _begin(main: Callable[[Job, PartialState], None], job: Job, file: Path, state: PartialState) -> None:
    check_process_group(job, file, state)
    main(job, state)


def check_process_group(job: Job, file: Path, state: PartialState) -> None:
    """Checks that all processes of the run have found each other, and work at the same job.

    Processes that were started each for itself would train as many models, and each would look finished.

    Raises:
        StageError: They have not, or the nodes see different files.
    """
    wanted = job.config["num_processes"]
    if state.num_processes != wanted:
        raise StageError(
            f"{state.num_processes} of {wanted} processes found each other. Start them with torchrun, whose PET_* "
            "variables Kubeflow Trainer sets: `accelerate launch` does not read them."
        )
    digests = gather_object([sha256_of_file(file)])
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise StageError(
            f"{file} is another file in process {others[0]} than in process 0: the nodes do not share one volume. Give "
            "all pods the same claim, ReadWriteMany, at the same path."
        )


def rows_of(
    job: Job, source: str, split: str, columns: Sequence[str] | None = None, *, groups_kept: int | None = 1
) -> ShardRows:
    """Returns the rows of one split of an input that were not quarantined, see `ShardRows`."""
    skipped = job.skipped.get(f"{source}/{split}", ())
    return ShardRows(job.inputs[source] / split, columns, skipped=skipped, groups_kept=groups_kept)
