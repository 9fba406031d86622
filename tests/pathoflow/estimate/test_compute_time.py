"""Operations against PyTorch's own count, and the pace of generation."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPModel

from components.training.pathoclip.config import TinyClip
from pathoflow.estimate import compute_time
from pathoflow.estimate.shapes import VISION_LANGUAGE, tiny_clip
from tests.pathoflow.estimate.test_shapes import clip_configuration

SAMPLE = compute_time.Sample(image_tokens=334, text_tokens=128, targets=128)


def test_operations_of_a_clip() -> None:
    shape = tiny_clip(TinyClip(max_length_tokens=32))
    model = CLIPModel(clip_configuration(shape))
    # Plain products: PyTorch's counter sees each of them.
    model.set_attn_implementation("eager")
    counter = FlopCounterMode(display=False)
    with counter:
        outputs = model(
            input_ids=torch.randint(3, 1000, (2, 32)),
            pixel_values=torch.randn(2, 3, shape.image_size, shape.image_size),
        )
        outputs.logits_per_image.sum().backward()
    assert 2 * compute_time.clip_training(shape, 32) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_what_is_frozen_takes_less() -> None:
    shape = VISION_LANGUAGE["Qwen/Qwen2.5-VL-3B-Instruct"]
    every = compute_time.training(shape, SAMPLE, vision=True, merger=True)
    without_tower = compute_time.training(shape, SAMPLE, vision=False, merger=True)
    adapters = compute_time.adapter_training(shape, SAMPLE)
    assert compute_time.forward(shape, SAMPLE).total < adapters < without_tower < every


def test_six_operations_a_parameter_and_token() -> None:
    """Kaplan et al. 2020: about 6 N D for training, attention apart."""
    shape = VISION_LANGUAGE["Qwen/Qwen2.5-VL-7B-Instruct"]
    sample = compute_time.Sample(image_tokens=0, text_tokens=512, targets=512)
    needed = compute_time.training(shape, sample, vision=False, merger=False)
    assert needed == pytest.approx(6 * (shape.language - shape.text_config.embeddings) * 512, rel=0.05)


def test_a_full_cache_slows_generation_down() -> None:
    empty, full = (compute_time.token_s(28, 16e9, cache, 3.35e12) for cache in (0.0, 60e9))
    assert empty == 28 * compute_time.LAUNCH_S
    assert full == pytest.approx(76e9 / 3.35e12 / 0.6)
