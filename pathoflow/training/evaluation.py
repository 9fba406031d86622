"""Measures the model on dev questions while it is trained: to stop in time, or to keep the best one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pathoflow.contract.output import Reporter
from pathoflow.inference.protocol import Request
from pathoflow.inference.transformers_engine import RequestEncoder, TransformersEngine
from pathoflow.system.files import sync_tree
from pathoflow.training.callbacks import barrier
from pathoflow.training.engine import save_trained
from pathoflow.training.history import ACCURACY, best, measurements, model_of

Score = Callable[[Sequence[str]], Mapping[str, float]]
"""Figures of the responses, which stand in the requests' order; `dev_accuracy` is among them."""


class EvalCallback(TrainerCallback):  # type: ignore[misc]
    """Answers the dev questions greedily every few steps, and after the last one, the processes sharing them.

    What was measured goes into the Trainer's own history, so that it is in every checkpoint.

    Args:
        requests: The dev questions.
        score: Scores the responses.
        prompts: Encodes the questions.
        reporter: Gets the figures as curves.
        every_steps: Optimiser steps between measurements.
        batch_size: Questions that a process answers at a time.
        max_new_tokens: Longest response, in tokens.
        at_start: Measures the model that training starts from, too.
        stop_at: Accuracy at which training ends; None for never.
        keep_best_in: Keeps the model with the highest accuracy there, as `step-<number>`; None keeps none.

    Attributes:
        trainer: Saves the best model; to be set before training begins if it is to be kept.
        unwrap: Prepares the trained model to generate.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        score: Score,
        prompts: RequestEncoder,
        reporter: Reporter,
        *,
        every_steps: int,
        batch_size: int,
        max_new_tokens: int,
        at_start: bool = False,
        stop_at: float | None = None,
        keep_best_in: Path | None = None,
    ) -> None:
        self.trainer: Any = None
        self.unwrap: Callable[[Any], AbstractContextManager[Any]] = nullcontext
        self._requests = requests
        self._score = score
        self._prompts = prompts
        self._reporter = reporter
        self._every_steps = every_steps
        self._batch_size = batch_size
        self._max_new_tokens = max_new_tokens
        self._at_start = at_start
        self._stop_at = stop_at
        self._keep_best_in = keep_best_in

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Measures the model that training starts from, unless the run goes on from a checkpoint."""
        if self._at_start and not measurements(state.log_history):
            self._measure(model, args, state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> TrainerControl:
        """Measures the model when it is time, and ends training once the target was reached."""
        if state.global_step % self._every_steps and state.global_step != state.max_steps:
            return control
        self._measure(model, args, state)
        if reached_at(state.log_history, self._stop_at) is not None:
            control.should_save = control.should_training_stop = True
        return control

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drops models that are no longer the best, once a complete checkpoint says so."""
        folder = self._keep_best_in
        just_saved = state.global_step > 0 and state.global_step % args.save_steps == 0
        if folder is not None and just_saved and state.is_world_process_zero and folder.is_dir():
            kept = model_of(folder, best(state.log_history)["step"])
            for other in set(folder.iterdir()) - {kept}:
                shutil.rmtree(other)

    def _measure(self, model: Any, args: TrainingArguments, state: TrainerState) -> None:
        with self.unwrap(model) as unwrapped:
            engine = TransformersEngine(
                unwrapped,
                self._prompts,
                max_new_tokens=self._max_new_tokens,
                batch_size=self._batch_size,
                process=args.process_index,
                num_processes=args.world_size,
            )
            responses = engine.generate(self._requests)
        figures = dict(self._score([response.text for response in responses]))
        state.log_history.append({"step": state.global_step, **figures})
        if state.is_world_process_zero:
            self._reporter.series(state.global_step, **figures)
        is_best = state.global_step > 0 and best(state.log_history)["step"] == state.global_step
        if self._keep_best_in is not None and is_best:
            self._keep(model_of(self._keep_best_in, state.global_step))

    def _keep(self, target: Path) -> None:
        temporary = target.with_name(f".{target.name}")
        save_trained(self.trainer, self.trainer.processing_class, temporary)
        if self.trainer.is_world_process_zero():
            sync_tree(temporary)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
        barrier()


def reached_at(history: Sequence[Mapping[str, Any]], target: float | None) -> int | None:
    """Returns the step of the first measurement whose accuracy reached the target; None if none did.

    >>> reached_at([{"step": 2, "dev_accuracy": 0.5}, {"step": 4, "dev_accuracy": 0.7}], 0.6)
    4
    >>> reached_at([{"step": 2, "dev_accuracy": 0.5}], None)
    """
    if target is None:
        return None
    return next((entry["step"] for entry in measurements(history) if entry[ACCURACY] >= target), None)
