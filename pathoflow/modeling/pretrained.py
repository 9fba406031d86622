"""Loads a processor, and writes model and processor as a plain `save_pretrained` directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from pathoflow.errors import InputError
from pathoflow.modeling.processor import Qwen2_5_VLProcessor
from pathoflow.modeling.tokenizer import (
    END_OF_TEXT,
    IMAGE_PAD,
    TURN_END,
    TURN_START,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
)
from pathoflow.modeling.weight_files import INDEX, weight_files

_IN_CONFIGURATION = {
    "image_token_id": IMAGE_PAD,
    "video_token_id": VIDEO_PAD,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}


def check_special_tokens(config: Any, tokenizer: Any) -> None:
    """Checks that a model and a tokenizer agree on the special tokens of images and turns.

    Raises:
        InputError: They do not; the message names the token.
    """
    known = tokenizer.get_vocab()
    for token in (TURN_START, TURN_END, END_OF_TEXT, *_IN_CONFIGURATION.values()):
        if token not in known:
            raise InputError(f"The base model's tokenizer has no token {token}: it is not a Qwen2.5-VL's.")
    for key, token in _IN_CONFIGURATION.items():
        expected, found = getattr(config, key), known[token]
        if expected != found:
            raise InputError(
                f"The base model's configuration says {key} = {expected}, but its tokenizer gives {token} the id "
                f"{found}. Take configuration and tokenizer from the same model."
            )
    if len(tokenizer) > config.text_config.vocab_size:
        raise InputError(
            f"The base model's tokenizer knows {len(tokenizer)} tokens, but the model has embeddings for "
            f"{config.text_config.vocab_size}. Take both from the same model."
        )


def load_processor(directory: Path, *, max_pixels: int | None = None) -> Qwen2_5_VLProcessor:
    """Loads the processor in a model's directory; with `max_pixels`, it scales larger images down to that.

    Raises:
        InputError: There is no such processor.
    """
    try:
        processor: Qwen2_5_VLProcessor = Qwen2_5_VLProcessor.from_pretrained(directory)
    except OSError as error:
        raise InputError(f"No Qwen2.5-VL processor can be loaded from {directory}: {error}") from error
    if max_pixels is not None:
        shortest = min(processor.image_processor.size["shortest_edge"], max_pixels)
        processor.image_processor.size = {"shortest_edge": shortest, "longest_edge": max_pixels}
    return processor


def save_model(
    model: Any, processor: Qwen2_5_VLProcessor, directory: Path, state: dict[str, torch.Tensor] | None = None
) -> None:
    """Writes a directory that stock transformers and vLLM load: safetensors, configuration, tokenizer, processor.

    Args:
        model: The model to write.
        processor: Written beside it.
        directory: Made if need be.
        state: The weights, where `model` does not hold them whole (ZeRO-3).
    """
    # What transformers (5.23) notes of names when it loads with ZeRO-3 leads back to others (`model.model.…`); without
    # a note it writes the hub's.
    model._weight_conversions = None
    model.save_pretrained(directory, state_dict=state)
    processor.save_pretrained(directory)


def copy_model(source: Path, processor: Qwen2_5_VLProcessor, directory: Path) -> None:
    """Copies the model in `source` byte for byte, and writes another processor beside it.

    Args:
        source: Its weights lie there as safetensors.
        processor: Written beside it.
        directory: Made if need be.
    """
    directory.mkdir(parents=True, exist_ok=True)
    index = source / INDEX
    for path in (source / "config.json", *([index] if index.is_file() else []), *weight_files(source)):
        shutil.copyfile(path, directory / path.name)
    processor.save_pretrained(directory)
