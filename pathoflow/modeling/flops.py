"""Counts the floating-point operations of a Qwen2.5-VL training step, vision and language apart.

Only matrix products count, with two operations per multiply-add. Recomputed activations do not count, nor does the half
of an attention that its causal mask hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Grid = Sequence[float]
"""Time, rows and columns of an image in patches."""


@dataclass(frozen=True)
class Flops:
    """Operations of a forward pass, or of forward and backward together.

    Attributes:
        vision: The vision tower.
        merger: From the vision tower into the language model.
        language: The language model's layers.
        head: From the language model to the vocabulary.
    """

    vision: float
    merger: float
    language: float
    head: float

    @property
    def total(self) -> float:
        """Operations of all parts."""
        return self.vision + self.merger + self.language + self.head


def forward_flops(config: Any, lengths: Sequence[int], grids: Sequence[Grid], num_targets: int) -> Flops:
    """Counts the operations of one forward pass of a pack.

    Args:
        config: The model's configuration.
        lengths: Tokens of each sample.
        grids: The images of all samples.
        num_targets: Positions whose logits are computed.
    """
    text = config.text_config
    return Flops(
        vision=sum(_vision(config.vision_config, grid) for grid in grids),
        merger=sum(_merger(config.vision_config, grid) for grid in grids),
        language=sum(_language(text, length) for length in lengths),
        head=2.0 * text.hidden_size * text.vocab_size * num_targets,
    )


def training_flops(
    forward: Flops, *, vision_learns: bool = True, merger_learns: bool = True, language_learns: bool = True
) -> Flops:
    """Counts the operations of forward and backward pass: a layer's gradients cost as much as its output, twice.

    Once for its weights if they learn, once for its inputs if anything before it learns.

    >>> training_flops(Flops(1.0, 1.0, 1.0, 1.0), vision_learns=False).vision
    1.0
    """
    before_language = vision_learns or merger_learns
    return Flops(
        vision=forward.vision * (3 if vision_learns else 1),
        merger=forward.merger * (1 + merger_learns + vision_learns),
        # The embeddings are part of the language model, so that its first layer's inputs learn with it.
        language=forward.language * (1 + language_learns + (language_learns or before_language)),
        head=forward.head * (1 + language_learns + (language_learns or before_language)),
    )


def sample_cost(config: Any, num_tokens: int, patches: Sequence[int]) -> float:
    """Counts the operations of a sample's forward pass, its images taken for squares; packs are balanced by it."""
    grids = [(1, patch**0.5, patch**0.5) for patch in patches]
    return forward_flops(config, [num_tokens], grids, num_tokens).total


def _language(text: Any, length: int) -> float:
    hidden = text.hidden_size
    head_dim = hidden // text.num_attention_heads
    projections = 2 * hidden * head_dim * (2 * text.num_attention_heads + 2 * text.num_key_value_heads)
    feed_forward = 3 * 2 * hidden * text.intermediate_size
    attention = 2 * 2 * hidden * (length + 1) / 2
    return float(text.num_hidden_layers * length * (projections + feed_forward + attention))


def _vision(vision: Any, grid: Grid) -> float:
    time, rows, columns = grid
    frame = rows * columns
    hidden = vision.hidden_size
    embedding = 2 * vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * hidden
    linear = 2 * 4 * hidden**2 + 3 * 2 * hidden * vision.intermediate_size
    num_full = sum(index < vision.depth for index in vision.fullatt_block_indexes)
    side = vision.window_size // vision.patch_size
    windows = _sum_of_squares(rows, side) * _sum_of_squares(columns, side)
    attention = 2 * 2 * hidden * (num_full * frame**2 + (vision.depth - num_full) * windows)
    return float(time * (frame * (embedding + vision.depth * linear) + attention))


def _merger(vision: Any, grid: Grid) -> float:
    unit = vision.spatial_merge_size**2
    num_tokens = grid[0] * grid[1] * grid[2] / unit
    wide = unit * vision.hidden_size
    return float(num_tokens * 2 * wide * (wide + vision.out_hidden_size))


def _sum_of_squares(length: float, side: int) -> float:
    """Returns the sum of the squared sizes of the windows that a length is divided into.

    >>> _sum_of_squares(20, 8)
    144
    """
    whole, rest = divmod(length, side)
    return whole * side**2 + rest**2
