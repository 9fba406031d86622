"""What every worker process of a training stage does first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate.utils.other
import datasets
import torch
import transformers
from accelerate import PartialState
from torch.distributed.elastic.multiprocessing.errors import record

from pathoflow.training.job import Job


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


def rows_of(job: Job, source: str, split: str, state: PartialState) -> Any:
    """The rows of one split of an input that were not quarantined, memory-mapped so that any size fits."""
    shards = sorted(str(path) for path in (job.inputs[source] / split).rglob("*.parquet"))
    with state.main_process_first():
        rows = datasets.Dataset.from_parquet(shards, cache_dir=str(job.scratch / "rows"))
    skipped = set(job.skipped.get(source, ()))
    return rows.select([number for number in range(len(rows)) if number not in skipped]) if skipped else rows
