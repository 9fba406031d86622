"""Runs a Trainer so that it can be killed or stopped at any moment and be started again."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pathoflow.contract.output import Reporter
from pathoflow.errors import Preempted
from pathoflow.training.callbacks import StopOnSigterm, WatchdogStepCallback
from pathoflow.training.config import TrainingConfig
from pathoflow.training.job import Job
from pathoflow.training.prometheus import COMPLETED_BY, Training, model_label, serve_metrics
from pathoflow.training.reporting import ReportingCallback
from pathoflow.training.restartable_trainer import RestartableTrainer


def train_preemptibly(
    trainer: RestartableTrainer,
    config: TrainingConfig,
    job: Job,
    curves: dict[str, str],
    *,
    stop_every_steps: int = 1,
) -> None:
    """Runs a Trainer to its end, from `job.checkpoint` on; exits with code 75 when it was asked to stop.

    Args:
        trainer: The Trainer to run.
        config: Settings of checkpoints and reports.
        job: Names the checkpoints' and reports' directories, and the checkpoint to resume from.
        curves: Names of the Trainer's log entries to report, each with its name in the curves.
        stop_every_steps: Stop on request only after a multiple of this many steps, so that a resumed run meets whole
            batches (of rollouts, say).
    """
    trainer.remove_callback(PrinterCallback)
    # It would write a harmless number in the place of a loss that is none.
    trainer.args.logging_nan_inf_filter = False
    stopping = StopOnSigterm(stop_every_steps)
    trainer.add_callback(WatchdogStepCallback())
    trainer.add_callback(stopping)
    trainer.add_callback(ReportingCallback(Reporter(job.report), curves, config, trainer))
    trainer.prepare_saving(config, job.origin(), lambda: stopping.stopped)
    if job.checkpoint is not None:
        trainer.add_callback(_Resumption(trainer, job.checkpoint))
    is_first = trainer.is_world_process_zero()
    with serve_metrics(_described(trainer, config, job), until_exit=True) if is_first else nullcontext():
        trainer.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
        trainer.finish_saving()
        if stopping.stopped:
            sys.exit(Preempted.exit_code)


def _described(trainer: RestartableTrainer, config: TrainingConfig, job: Job) -> Training:
    return Training(
        stage=config.stage,
        model=model_label(trainer.model),
        scratch=job.scratch,
        completed_by=COMPLETED_BY,
        checkpoint_every_steps=config.save_every_steps,
        epochs=config.epochs if config.max_steps is None else None,
        saving_s=lambda: trainer.saving_s,
    )


class _Resumption(TrainerCallback):  # type: ignore[misc]
    """Restores the losses since the last log, once the Trainer has reset them."""

    def __init__(self, trainer: RestartableTrainer, checkpoint: Path) -> None:
        self._trainer, self._checkpoint = trainer, checkpoint

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._trainer.restore_loop(self._checkpoint)
