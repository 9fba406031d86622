"""Measures the model on the dev questions while it is trained, and keeps the best one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.models.utils import unwrap_model_for_generation

from components.training.rl.history import ACCURACY, CONSISTENCY, best, measurements, model_of
from pathoflow.contract.output import Reporter
from pathoflow.qa.prompts import PromptStyle
from pathoflow.qa.question import Question
from pathoflow.qa.scoring import is_correct, think_answer_consistent
from pathoflow.system.files import sync_tree
from pathoflow.training.callbacks import barrier
from pathoflow.training.engine import save_trained
from pathoflow.training.generation import answer_all
from pathoflow.training.samples import Encoder, prompt
from pathoflow.training.steps import Encoded, remembering


class DevSelection(TrainerCallback):  # type: ignore[misc]
    """Answers the dev questions greedily every few steps and keeps the model that answered most of them rightly.

    What was measured goes into the Trainer's own history, so that it is in every checkpoint.

    Args:
        questions: The dev questions.
        style: Chooses their system prompt.
        every_steps: Steps between measurements; the SFT model and the last step are measured, too.
        encoder: Encodes questions.
        batch_size: Questions that a process answers at a time.
        num_cached: Encoded questions that are kept in memory.
        max_tokens: Longest answer.
        directory: Where models are kept, as `step-<number>`.
        reporter: Gets the curves.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        *,
        style: PromptStyle,
        every_steps: int,
        encoder: Encoder,
        batch_size: int,
        num_cached: int,
        max_tokens: int,
        directory: Path,
        reporter: Reporter,
    ) -> None:
        self.trainer: Any = None
        self._questions = questions
        self._style = style
        self._encoder = encoder
        self._encoded = remembering(self._encode, num_cached)
        self._every_steps = every_steps
        self._batch_size = batch_size
        self._max_tokens = max_tokens
        self._directory = directory
        self._reporter = reporter

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measures the model that training starts from."""
        if not measurements(state.log_history):
            self._measure(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measures the model when it is due."""
        if state.global_step % self._every_steps == 0 or state.global_step == state.max_steps:
            self._measure(state)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drops models that are no longer the best, once a complete checkpoint says so."""
        just_saved = state.global_step > 0 and state.global_step % args.save_steps == 0
        if just_saved and state.is_world_process_zero and self._directory.is_dir():
            kept = model_of(self._directory, best(state.log_history)["step"])
            for model in set(self._directory.iterdir()) - {kept}:
                shutil.rmtree(model)

    def _measure(self, state: TrainerState) -> None:
        values = self._answer_all()
        state.log_history.append({"step": state.global_step, **values})
        if state.is_world_process_zero:
            self._reporter.series(state.global_step, **values)
        if state.global_step and best(state.log_history)["step"] == state.global_step:
            self._keep(model_of(self._directory, state.global_step))

    def _answer_all(self) -> dict[str, float]:
        """Shares of the questions answered rightly, and with thinking that ends in the answer."""
        accelerator = self.trainer.accelerator
        with unwrap_model_for_generation(self.trainer.model_wrapped, accelerator) as model:
            answers = answer_all(
                model,
                self._encoder,
                self._encoded,
                len(self._questions),
                process=accelerator.process_index,
                num_processes=accelerator.num_processes,
                batch_size=self._batch_size,
                max_new_tokens=self._max_tokens,
            )
        pairs = list(zip(self._questions, answers, strict=True))
        return {
            ACCURACY: fmean(is_correct(answer, question) for question, answer in pairs),
            CONSISTENCY: fmean(think_answer_consistent(answer, question) for question, answer in pairs),
        }

    def _encode(self, number: int) -> Encoded:
        question = self._questions[number]
        return self._encoder.encode(prompt(question.messages(self._style), question.images, self._encoder.processor))

    def _keep(self, target: Path) -> None:
        temporary = target.with_name(f".{target.name}")
        save_trained(self.trainer, self.trainer.processing_class, temporary)
        if self.trainer.is_world_process_zero():
            sync_tree(temporary)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
        barrier()
