"""Adds the loss of a pack of samples to transformers' Qwen2.5-VL."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as stock

ROWS_AT_A_TIME = 4096
"""Positions whose logits are in memory at once: 2.5 GB in float32 with a vocabulary of 152 000."""


class Qwen2_5_VLForConditionalGeneration(stock.Qwen2_5_VLForConditionalGeneration):  # type: ignore[misc]  # noqa: N801
    """The stock model. It bears the stock class's name, so a checkpoint saved with it names the stock class."""

    @classmethod
    def is_custom_code(cls) -> bool:
        """Returns False: the modules are the stock model's, so the hub's names of weights are converted as for it.

        transformers (5.23) leaves them alone for classes of others, and weights that it does not find at random.
        """
        return False

    # `generate` looks at the names of the arguments.
    @wraps(stock.Qwen2_5_VLForConditionalGeneration.forward)
    def forward(
        self,
        *arguments: Any,
        targets: torch.Tensor | None = None,
        target_positions: torch.Tensor | None = None,
        target_weights: torch.Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """Returns the stock output or, with `targets`, the weighted sum of their negative log-likelihoods as a scalar.

        Logits are computed for the positions that are learned from alone: a prompt or an image costs none.

        Args:
            arguments: Positional arguments of the stock model.
            targets: Token ids to predict, `[T]`.
            target_positions: From which position of the only sequence each is predicted, `[T]`.
            target_weights: Weight of each in the loss, `[T]`.
            inputs: Keyword arguments of the stock model.
        """
        if targets is None:
            return super().forward(*arguments, **inputs)
        hidden = self.model(*arguments, **inputs, use_cache=False).last_hidden_state[0]
        return self._loss_sum(hidden[target_positions], targets, target_weights)

    def _loss_sum(self, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        rows = (hidden.split(ROWS_AT_A_TIME), targets.split(ROWS_AT_A_TIME), weights.split(ROWS_AT_A_TIME))
        if len(rows[0]) == 1:
            return self._loss_of_rows(hidden, targets, weights)
        parts = [checkpoint(self._loss_of_rows, *part, use_reentrant=False) for part in zip(*rows, strict=True)]
        return torch.stack(parts).sum()

    def _loss_of_rows(self, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        losses = functional.cross_entropy(self.lm_head(hidden).float(), targets, reduction="none")
        return (losses * weights).sum()
