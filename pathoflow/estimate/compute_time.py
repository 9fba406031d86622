"""Counts a stage's operations, and estimates their time at an assumed efficiency."""

from __future__ import annotations

from dataclasses import dataclass

from pathoflow.estimate.shapes import Clip, Tower, VisionLanguage
from pathoflow.modeling.flops import Flops, forward_flops, training_flops

LAUNCH_S = 7e-4
"""Seconds that plain transformers takes to start one layer's kernels: below that, no token is generated."""
_BANDWIDTH_SHARE = 0.6


@dataclass(frozen=True)
class Sample:
    """Mean sample of a data set.

    Attributes:
        image_tokens: Tokens of its image.
        text_tokens: Other tokens.
        targets: Tokens that are learned.
    """

    image_tokens: int
    text_tokens: int
    targets: int

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.image_tokens + self.text_tokens


def forward(shape: VisionLanguage, sample: Sample) -> Flops:
    """Counts the operations of a sample's forward pass; its image is taken for a square."""
    side = (sample.image_tokens * shape.vision_config.spatial_merge_size**2) ** 0.5
    grids = [(1.0, side, side)] if sample.image_tokens else []
    return forward_flops(shape, [sample.tokens], grids, sample.targets)


def training(shape: VisionLanguage, sample: Sample, *, vision: bool, merger: bool, language: bool = True) -> float:
    """Counts the operations of a sample's forward and backward pass, by trainable parts, without recomputation."""
    learns = {"vision_learns": vision, "merger_learns": merger, "language_learns": language}
    return training_flops(forward(shape, sample), **learns).total


def adapter_training(shape: VisionLanguage, sample: Sample) -> float:
    """Counts the operations where adapters learn: frozen weights pass gradients on, but get none."""
    flops = forward(shape, sample)
    return flops.vision + flops.merger + 2 * (flops.language + flops.head)


def clip_training(shape: Clip, text_tokens: float) -> float:
    """Counts the operations of a pair's forward and backward pass."""
    return 3 * (_tower(shape.vision, shape.vision.num_tokens) + _tower(shape.text, text_tokens))


def _tower(tower: Tower, tokens: float) -> float:
    return float(tower.num_hidden_layers * tokens * (2 * tower.layer + 4 * tokens * tower.hidden_size))


def token_s(layers: int, weight_bytes: float, cache_bytes: float, bandwidth: float) -> float:
    """Returns the seconds to generate a batch's next token: weights and cache are read once, kernels are launched.

    >>> token_s(36, 7.5e9, 0.0, 3.35e12) == 36 * LAUNCH_S
    True
    """
    return max(layers * LAUNCH_S, (weight_bytes + cache_bytes) / (bandwidth * _BANDWIDTH_SHARE))
