"""The count of operations against PyTorch's own, part by part."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pathoflow.modeling.flops import Flops, forward_flops, training_flops

TEXT = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}
VISION = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "fullatt_block_indexes": [2],
}
GRIDS = [[1, 12, 20], [1, 8, 4]]


@pytest.fixture(scope="module")
def model():
    config = Qwen2_5_VLConfig(text_config=TEXT, vision_config=VISION, image_token_id=5, vision_start_token_id=6)
    model = Qwen2_5_VLForConditionalGeneration(config)
    # Plain matrix products: PyTorch's counter sees each of them.
    model.set_attn_implementation("eager")
    return model


def test_each_part_is_counted_as_pytorch_counts_it(model):
    num_image_tokens = sum(rows * columns // 4 for _, rows, columns in GRIDS)
    length = num_image_tokens + 30
    ids = torch.full((1, length), 7)
    ids[0, 1 : 1 + num_image_tokens] = 5
    inputs = {
        "input_ids": ids,
        "position_ids": torch.arange(length).expand(3, 1, -1),
        "pixel_values": torch.randn(4 * num_image_tokens, 1176),
        "image_grid_thw": torch.tensor(GRIDS),
    }
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    counts = counter.get_flop_counts()
    ours = forward_flops(model.config, [length], GRIDS, length)
    merger = sum(counts["Qwen2_5_VLForConditionalGeneration.model.visual.merger"].values())
    visual = sum(counts["Qwen2_5_VLForConditionalGeneration.model.visual"].values())
    # Rotary positions are a product there and no work worth counting here.
    assert ours.merger == merger
    assert ours.vision == pytest.approx(visual - merger, rel=2e-3)
    assert ours.head == sum(counts["Qwen2_5_VLForConditionalGeneration.lm_head"].values())
    language = sum(counts["Qwen2_5_VLForConditionalGeneration.model.language_model"].values())
    # Half of the causal attention is masked: eager attention computes it all the same.
    masked = 3 * 2 * 2 * 64 * length * (length - 1) / 2
    assert ours.language + masked == pytest.approx(language, rel=2e-3)


def test_backward_passes_cost_what_learns():
    one = Flops(1.0, 1.0, 1.0, 1.0)
    assert training_flops(one).total == 12
    frozen_tower = training_flops(one, vision_learns=False)
    assert (frozen_tower.vision, frozen_tower.merger, frozen_tower.language) == (1, 2, 3)
    merger_alone = training_flops(one, vision_learns=False, language_learns=False)
    assert (merger_alone.merger, merger_alone.language, merger_alone.head) == (2, 2, 2)
