"""What the Trainer tells the stage while it runs, and what the stage tells the Trainer."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pathoflow.output import Reporter
from pathoflow.training.checkpoints import PREFIX, mark_complete


class SafeCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint complete, and on SIGTERM has all processes write one at the same step and stop.

    Args:
        stop_every_steps: Stop only after a multiple of this many steps, so that a resumed run meets whole batches
            (of rollouts, say).

    Attributes:
        preempted: Whether training ended because of a SIGTERM.
    """

    def __init__(self, stop_every_steps: int = 1) -> None:
        self.preempted = False
        self._stop_every_steps = stop_every_steps
        self._asked_to_stop = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, signal_number: int, frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Stops every process at the same step if any of them was asked to."""
        if state.global_step % self._stop_every_steps == 0 and any_process(self._asked_to_stop, args.device):
            self.preempted = True
            control.should_save = control.should_training_stop = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Marks the checkpoint once every process has written its part."""
        barrier()
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir) / f"{PREFIX}{state.global_step}")
        barrier()


class Reporting(TrainerCallback):  # type: ignore[misc]
    """Passes progress and curves on to the stage's reporter, from the first process.

    Each point of the loss is a mean since the point before; the first one after a restart, since the restart.

    Args:
        reporter: Where they go.
        names: Names of the Trainer's log entries to pass on, each with its name in the curves.
    """

    def __init__(self, reporter: Reporter, names: dict[str, str]) -> None:
        self._reporter = reporter
        self._names = names
        self._loss = float("nan")
        self._seen = (0, time.monotonic())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Moves the progress bar."""
        if state.is_world_process_zero:
            self._reporter.progress(state.global_step, state.max_steps, "steps", loss=round(self._loss, 3))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Adds a point to each curve."""
        if not state.is_world_process_zero or "loss" not in logs:
            return
        self._loss = logs["loss"]
        values = {name: float(logs[key]) for key, name in self._names.items() if logs.get(key) is not None}
        num_tokens, now = state.num_input_tokens_seen, time.monotonic()
        if num_tokens > self._seen[0]:
            values["tokens_per_s"] = (num_tokens - self._seen[0]) / max(now - self._seen[1], 1e-9)
        self._seen = (num_tokens, now)
        self._reporter.series(state.global_step, **values)


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is set in any process of the run."""
    if not torch.distributed.is_initialized():
        return flag
    flags = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return bool(flags.item())


def barrier() -> None:
    """Waits until every process of the run is here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
