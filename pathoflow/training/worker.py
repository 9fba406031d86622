"""What every worker process of a training stage does first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import accelerate.utils.other
import datasets
import torch
import transformers
from accelerate import PartialState
from torch.distributed.elastic.multiprocessing.errors import record

from pathoflow.training.job import Job
from pathoflow.training.rows import ShardRows


def run_worker(main: Callable[[Job, PartialState], None]) -> None:
    """Runs `main` on the job whose file is the command's only argument, as one of torchrun's processes."""
    for library in (transformers.logging, datasets.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    state = PartialState(cpu=not torch.cuda.is_available())
    job = Job.load(Path(sys.argv[1]))
    if not job.config.get("deepspeed_stage"):
        # To see whether a model is wrapped in it, accelerate would import DeepSpeed where it is installed: 5 s.
        accelerate.utils.other.is_deepspeed_available = lambda: False
    try:
        # The traceback of the first process that failed is what the stage's error quotes.
        record(main)(job, state)
    finally:
        state.destroy_process_group()


def rows_of(
    job: Job, source: str, split: str, columns: Sequence[str] | None = None, *, groups_kept: int | None = 1
) -> ShardRows:
    """The rows of one split of an input that were not quarantined, see `ShardRows`."""
    skipped = job.skipped.get(f"{source}/{split}", ())
    return ShardRows(job.inputs[source] / split, columns, skipped=skipped, groups_kept=groups_kept)
