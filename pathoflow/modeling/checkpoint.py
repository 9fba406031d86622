"""Reading and writing models with their processor as plain `save_pretrained` directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from pathoflow.errors import InputError
from pathoflow.modeling.processor import Qwen2_5_VLProcessor


def load_model(
    source: str | Path, revision: str | None = None, *, dtype: torch.dtype = torch.float32
) -> Qwen2_5_VLForConditionalGeneration:
    """The Qwen2.5-VL in a directory, or of that name on the model hub, in evaluation mode.

    Raises:
        InputError: There is no such model.
    """
    try:
        return Qwen2_5_VLForConditionalGeneration.from_pretrained(source, revision=revision, dtype=dtype)
    except OSError as error:
        raise InputError(f"No Qwen2.5-VL can be loaded from {source}: {error}") from error


def load_processor(
    source: str | Path, revision: str | None = None, *, max_pixels: int | None = None
) -> Qwen2_5_VLProcessor:
    """The processor of the model at `source`; with `max_pixels`, it scales larger images down to that.

    Raises:
        InputError: There is no such processor.
    """
    try:
        processor: Qwen2_5_VLProcessor = Qwen2_5_VLProcessor.from_pretrained(source, revision=revision)
    except OSError as error:
        raise InputError(f"No Qwen2.5-VL processor can be loaded from {source}: {error}") from error
    if max_pixels is not None:
        shortest = min(processor.image_processor.size["shortest_edge"], max_pixels)
        processor.image_processor.size = {"shortest_edge": shortest, "longest_edge": max_pixels}
    return processor


def save_model(
    model: Any, processor: Qwen2_5_VLProcessor, directory: Path, state: dict[str, torch.Tensor] | None = None
) -> None:
    """Writes a directory that stock transformers and vLLM load: safetensors, configuration, tokenizer, processor.

    Args:
        model: What to write.
        processor: Written beside it.
        directory: Made if need be.
        state: The weights, where `model` does not hold them whole (ZeRO-3).
    """
    model.save_pretrained(directory, state_dict=state)
    processor.save_pretrained(directory)
