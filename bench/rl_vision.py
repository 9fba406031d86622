"""Measures RL's speed-up from attending to all vision windows in one call, against stock transformers' call for each.

Forward and backward passes over the completions of a step, and their rollout, with the attention of `rl` and with
PyTorch's usual one; images that repeat are seen once in both.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.report import Figure, conclude
from pathoflow.modeling.attention import use_segment_attention
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.modeling.vision_cache import VisionFeatureCache

_TEXT = "What is shown? (A) lipoma (B) melanoma (C) haemangioma (D) naevus. It is yellow: A"
# The shapes: smoke's, whose images of 56 px are one window each, and one with the paper's images of 512 px.
_SMOKE = (TinyShape(num_layers=2), 56, 16, 8)
_LARGE = (TinyShape(num_layers=2, vision_depth=8, vision_hidden_size=128, vision_intermediate_size=256), 504, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    repetitions = 2 if parser.parse_args().quick else 7
    torch.set_num_threads(1)
    figures = []
    for name, shape, goal in (("smoke's model", _SMOKE, 0.95), ("8 vision layers, 504 px", _LARGE, 1.0)):
        learning, rollout = _ratios(*shape, repetitions)
        figures += [
            Figure(f"{name}: forward and backward", learning, "x", "stock attention", goal, higher_is_better=True),
            Figure(f"{name}: rollout of 8 tokens", rollout, "x", "stock attention", goal, higher_is_better=True),
        ]
    conclude(f"Vision tower in RL, fastest of {repetitions}", figures)


def _ratios(shape: TinyShape, side_px: int, num_images: int, num_generations: int, repetitions: int) -> list[float]:
    """Returns the speed-ups of learning and of rollouts."""
    processor = new_processor(train_tokenizer([_TEXT] * 4, shape.vocabulary_size), max_pixels=side_px**2)
    processor.tokenizer.padding_side = "left"
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (side_px, side_px, 3), dtype=np.uint8)) for _ in range(num_images)]
    repeated = [image for image in images for _ in range(num_generations)]
    batch = dict(processor(images=repeated, text=[IMAGE + _TEXT] * len(repeated), return_tensors="pt", padding=True))
    models = [build_tiny_model(shape, processor.tokenizer, seed=0).eval() for _ in range(2)]
    for model in models:
        VisionFeatureCache(model.model.visual).install()
    use_segment_attention(models[1])
    times: list[list[list[float]]] = [[[], []], [[], []]]
    for _ in range(repetitions + 1):
        # Side by side, so that a machine that slows down slows both.
        for work, measured in zip((_learn, _roll_out), times, strict=True):
            for model, found in zip(models, measured, strict=True):
                started = time.perf_counter()
                work(model, batch)
                found.append(time.perf_counter() - started)
    # The first one warms up.
    return [min(stock[1:]) / min(ours[1:]) for stock, ours in times]


def _learn(model: Any, batch: dict[str, torch.Tensor]) -> None:
    model.zero_grad()
    model(**batch).logits.logsumexp(-1).mean().backward()


@torch.no_grad()  # type: ignore[untyped-decorator]
def _roll_out(model: Any, batch: dict[str, torch.Tensor]) -> None:
    model.generate(**batch, do_sample=False, min_new_tokens=8, max_new_tokens=8)


if __name__ == "__main__":
    main()
