"""Stops all processes of a run at the same step, and reduces values over them."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pathoflow.training.watchdog import Watchdog


class StopOnSigterm(TrainerCallback):  # type: ignore[misc]
    """Writes a checkpoint and stops all processes at the same step once any of them gets SIGTERM.

    Processes that load data inherit the handler and go on: a signal to the whole group must not end them before the
    step that waits for their batch.

    Args:
        every_steps: Stop only after a multiple of this many steps, so that a resumed run meets whole batches
            (of rollouts, say).

    Attributes:
        stopped: Whether training ended because of a SIGTERM.
    """

    def __init__(self, every_steps: int = 1) -> None:
        self.stopped = False
        self._every_steps = every_steps
        self._asked_to_stop = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, signal_number: int, frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Stops every process at the same step if any of them was asked to."""
        if state.global_step % self._every_steps == 0 and any_process(self._asked_to_stop, args.device):
            self.stopped = True
            control.should_save = control.should_training_stop = True
        return control


class WatchdogStepCallback(TrainerCallback):  # type: ignore[misc]
    """Tells the watchdog which step has begun."""

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Sets the watchdog's step."""
        Watchdog.step = state.global_step + 1


def any_process(flag: bool, device: torch.device) -> bool:
    """Returns whether `flag` is set in any process of the run."""
    return bool(all_reduce_sums([float(flag)], device)[0])


def all_reduce_sums(values: list[float], device: torch.device) -> list[float]:
    """Sums each value over the processes of the run."""
    if not torch.distributed.is_initialized():
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return [float(value) for value in total.tolist()]


def barrier() -> None:
    """Waits until every process of the run is here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
