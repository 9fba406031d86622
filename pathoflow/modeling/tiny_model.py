"""Builds a Qwen2.5-VL small enough to train on one CPU core in a minute."""

from __future__ import annotations

import torch
from transformers import GenerationConfig, Qwen2_5_VLConfig
from transformers.models.qwen2 import Qwen2Tokenizer

from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import IMAGE_PAD, VIDEO_PAD, VISION_END, VISION_START


def build_tiny_model(shape: TinyShape, tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Builds a Qwen2.5-VL with random weights that depend on `shape` and `seed` alone.

    Patches, spatial merging and rotary positions are those of the real model, so every image of 28 x 28 px is one
    token; the last vision block attends to the whole image.
    """
    rotary_channels = shape.hidden_size // shape.num_heads // 2
    time = rotary_channels // 4
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "num_key_value_heads": shape.num_heads,
            "max_position_embeddings": 2048,
            "initializer_range": shape.initializer_range,
            "tie_word_embeddings": True,
            # As in the real model, a quarter of the rotary channels counts time and the rest rows and columns.
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [time, *_halves(rotary_channels - time)],
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": shape.vision_depth,
            "hidden_size": shape.vision_hidden_size,
            "intermediate_size": shape.vision_intermediate_size,
            "num_heads": shape.vision_num_heads,
            "out_hidden_size": shape.hidden_size,
            "fullatt_block_indexes": [shape.vision_depth - 1],
            "initializer_range": shape.initializer_range,
        },
        tie_word_embeddings=True,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_PAD),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO_PAD),
        vision_start_token_id=tokenizer.convert_tokens_to_ids(VISION_START),
        vision_end_token_id=tokenizer.convert_tokens_to_ids(VISION_END),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def _halves(number: int) -> tuple[int, int]:
    return number - number // 2, number // 2
