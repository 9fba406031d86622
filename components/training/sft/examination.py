"""Stops fine-tuning once enough questions that it does not learn from are answered correctly."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pathoflow.contract.output import Reporter
from pathoflow.qa.question import Question
from pathoflow.qa.scoring import is_correct
from pathoflow.training.generation import answer_all
from pathoflow.training.samples import Encoder, Sample
from pathoflow.training.steps import remembering

ACCURACY = "dev_accuracy"


class Asked(NamedTuple):
    """A prompt and the question that it puts."""

    prompt: Sample
    question: Question


class Examination(TrainerCallback):  # type: ignore[misc]
    """Has the model answer the questions every few steps, the processes sharing them.

    Args:
        questions: What is asked.
        encoder: Encodes prompts.
        reporter: Gets the accuracy as a curve.
        every_steps: Steps between two examinations.
        batch_size: Questions answered at a time.
        num_cached: Encoded questions that are kept in memory.
        max_new_tokens: Longest response, in tokens.
        stop_at: Accuracy at which training ends; None for never.

    Attributes:
        accuracy: The last result by the step after which it was measured.
        stopped_at: The step at which the target was reached; None if it was not.
    """

    def __init__(
        self,
        questions: Sequence[Asked],
        encoder: Encoder,
        reporter: Reporter,
        *,
        every_steps: int,
        batch_size: int,
        num_cached: int,
        max_new_tokens: int,
        stop_at: float | None,
    ) -> None:
        self._questions = questions
        self._encoded = remembering(lambda number: encoder.encode(questions[number].prompt), num_cached)
        self._encoder = encoder
        self._reporter = reporter
        self._every_steps = every_steps
        self._batch_size = batch_size
        self._max_new_tokens = max_new_tokens
        self._stop_at = stop_at
        self.accuracy: dict[int, float] = {}
        self.stopped_at: int | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remembers what was measured before a restart; the Trainer's history is in every checkpoint."""
        for entry in state.log_history:
            if ACCURACY in entry:
                self._note(entry["step"], entry[ACCURACY])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any, **_: Any
    ) -> TrainerControl:
        """Examines the model when it is time, and ends training when the target is reached."""
        if state.global_step % self._every_steps and state.global_step != state.max_steps:
            return control
        accuracy = self.examine(model, args)
        state.log_history.append({"step": state.global_step, ACCURACY: accuracy})
        self._note(state.global_step, accuracy)
        if state.is_world_process_zero:
            self._reporter.series(state.global_step, dev_accuracy=accuracy)
        if self.stopped_at is not None:
            control.should_save = control.should_training_stop = True
        return control

    def _note(self, step: int, accuracy: float) -> None:
        self.accuracy[step] = accuracy
        if self._stop_at is not None and accuracy >= self._stop_at:
            self.stopped_at = step

    def examine(self, model: Any, args: TrainingArguments) -> float:
        """Returns the share of the questions that are answered rightly by greedy responses."""
        responses = answer_all(
            model,
            self._encoder,
            self._encoded,
            len(self._questions),
            process=args.process_index,
            num_processes=args.world_size,
            batch_size=self._batch_size,
            max_new_tokens=self._max_new_tokens,
        )
        return fmean(is_correct(text, asked.question) for text, asked in zip(responses, self._questions, strict=True))
