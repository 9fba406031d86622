"""Runs a Trainer so that it can be killed or stopped at any moment and be started again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from pathoflow.output import Reporter
from pathoflow.training.callbacks import Reporting, SafeCheckpoints, barrier
from pathoflow.training.checkpoints import newest_complete
from pathoflow.training.job import Job


def train_safely(trainer: Any, job: Job, curves: dict[str, str], *, stop_every_steps: int = 1) -> None:
    """Runs a Trainer to its end, from the last complete checkpoint on; exits with code 75 when it was stopped."""
    trainer.remove_callback(PrinterCallback)
    safety = SafeCheckpoints(stop_every_steps)
    trainer.add_callback(safety)
    trainer.add_callback(Reporting(Reporter(job.report), curves))
    if trainer.is_world_process_zero():
        newest_complete(job.checkpoints)
    barrier()
    checkpoint = newest_complete(job.checkpoints)
    barrier()
    if checkpoint is not None and not trainer.is_deepspeed_enabled:
        restore_weights(trainer.model, checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if safety.preempted:
        if trainer.is_world_process_zero():
            job.preempted.touch()
        barrier()
        sys.exit(75)


def restore_weights(model: Any, checkpoint: Path) -> None:
    """Puts the weights of a checkpoint into `model`.

    `save_pretrained` writes Qwen2.5-VL's weights under their names on the hub, and the Trainer (5.23) looks for the
    names in memory: it finds none, warns, and would go on with the weights that training started from.
    """
    saved = type(model).from_pretrained(checkpoint, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())
