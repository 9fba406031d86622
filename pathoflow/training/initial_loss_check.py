"""Checks before the first step that a pretrained model does better than guessing.

Weights that were not loaded, loaded in the wrong order or corrupted give a model that trains without an error and ends
badly, days later. Whatever the cause, such a model gives each token about the probability of one in the
vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pathoflow.contract.output import Reporter
from pathoflow.errors import InputError
from pathoflow.training.callbacks import all_reduce_sums

INITIAL_LOSS = "initial_loss"


class InitialLossCheck(TrainerCallback):  # type: ignore[misc]
    """Measures the loss before the first step, logs it as `initial_loss`, and refuses a model that only guesses.

    Args:
        pack_of: Pack that this process measures on, see `steps.packed`; the figure is over all processes.
        reporter: Gets the figure as the curve's point at step 0.
        max_share: The largest loss, as a share of the natural logarithm of the vocabulary's size, which is that of
            guessing; None refuses nothing.

    Attributes:
        trainer: Whose model is measured; to be set before training begins.
    """

    def __init__(self, pack_of: Callable[[], dict[str, Any]], reporter: Reporter, max_share: float | None) -> None:
        self.trainer: Any = None
        self._pack_of = pack_of
        self._reporter = reporter
        self._max_share = max_share

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measures the loss, unless the run resumes from a checkpoint.

        Raises:
            InputError: The model does not do better than guessing.
        """
        if state.global_step:
            return
        loss = mean_loss(self.trainer, self._pack_of())
        state.log_history.append({"step": 0, INITIAL_LOSS: loss})
        if state.is_world_process_zero:
            self._reporter.series(0, initial_loss=loss)
        vocabulary_size = self.trainer.model.config.get_text_config().vocab_size
        if fault := chance_level_fault(loss, vocabulary_size, self._max_share):
            raise InputError(fault)


def chance_level_fault(loss: float, vocabulary_size: int, max_share: float | None) -> str | None:
    """Returns the fault of a model whose loss is near that of guessing; None of any other model.

    >>> chance_level_fault(2.5, 152_000, 0.75)
    >>> chance_level_fault(11.9, 152_000, 0.75)[:70]
    'The loss before the first step is 11.90, and guessing among 152000 tok'
    >>> chance_level_fault(11.9, 152_000, None)
    """
    guessing = math.log(vocabulary_size)
    # NaN compares as False, and is no knowledge.
    if max_share is None or loss < max_share * guessing:
        return None
    return (
        f"The loss before the first step is {loss:.2f}, and guessing among {vocabulary_size} tokens gives "
        f"{guessing:.2f}: the model that should be trained on knows next to nothing, so its weights are not what they "
        f"are taken for. Look at what made it. If that is how it should be, raise max_initial_loss_share above "
        f"{max_share} or set it to null."
    )


@torch.no_grad()  # type: ignore[untyped-decorator]
def mean_loss(trainer: Any, pack: dict[str, Any]) -> float:
    """Returns the mean negative log-likelihood of the targets in the packs of all processes, in nats; one pass each."""
    model = trainer.model_wrapped
    was_training = model.training
    model.eval()
    with trainer.compute_loss_context_manager():
        # Not `_prepare_inputs`, which is a rollout in TRL.
        loss = model(**trainer._prepare_input(pack))
    model.train(was_training)
    total, weight = all_reduce_sums([float(loss), float(pack["target_weights"].double().sum())], trainer.args.device)
    return total / weight if weight else 0.0


def initial_loss(history: list[dict[str, float]]) -> dict[str, float]:
    """Returns the initial loss in a Trainer's history as a metric of the stage; checkpoints carry it along."""
    return next(({INITIAL_LOSS: entry[INITIAL_LOSS]} for entry in history if INITIAL_LOSS in entry), {})
