"""Checkpoints in the shapes in which others publish them: names, shards, index, number format and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

# As Qwen2.5-VL's repositories on the hub have them.
_HUB_NAMES = (("model.visual.", "visual."), ("model.language_model.", "model."))
SETTINGS = {"do_sample": True, "temperature": 1e-6, "top_k": 1, "repetition_penalty": 1.05}
"""How Qwen's authors would sample."""


def hub_name(name: str) -> str:
    """What a tensor of Qwen2.5-VL is called in the files on the hub.

    >>> hub_name("model.language_model.layers.0.mlp.up_proj.weight")
    'model.layers.0.mlp.up_proj.weight'
    """
    for ours, theirs in _HUB_NAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def publish(
    model: Any,
    directory: Path,
    *,
    old_names: bool = True,
    num_shards: int = 1,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[str, torch.Tensor]:
    """Writes a Qwen2.5-VL as it would lie on the hub; the tensors in the files, by their names in memory.

    Args:
        model: What to publish.
        directory: Made if need be.
        old_names: With the names that the published files have, from before transformers 4.52.
        num_shards: Files, with an index if there are several.
        dtype: Number format in the files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tied = set(model.all_tied_weights_keys)
    tensors = {
        name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items() if name not in tied
    }
    written = {hub_name(name) if old_names else name: tensor for name, tensor in tensors.items()}
    write_shards(written, directory, num_shards)
    write_configuration(model, directory, dtype)
    ends = {name: getattr(model.generation_config, name) for name in ("eos_token_id", "pad_token_id")}
    (directory / "generation_config.json").write_text(json.dumps(SETTINGS | ends))
    return tensors


def write_configuration(model: Any, directory: Path, dtype: torch.dtype) -> None:
    """Writes `config.json` as Qwen published it: the language model's keys lie flat, its rotary positions apart."""
    text, vision = model.config.text_config.to_dict(), model.config.vision_config.to_dict()
    rotary = text["rope_parameters"]
    kept = {
        "attention_dropout", "hidden_act", "hidden_size", "initializer_range", "intermediate_size",
        "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps",
        "use_cache", "vocab_size", "bos_token_id", "eos_token_id", "pad_token_id",
    }  # fmt: skip
    tokens = ("image", "video", "vision_start", "vision_end")
    configuration = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": model.config.tie_word_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "transformers_version": "4.41.2",
        "rope_theta": rotary["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rotary["mrope_section"]},
        "vision_config": {key: value for key, value in vision.items() if key not in ("model_type", "dtype")},
    }
    configuration |= {key: value for key, value in text.items() if key in kept}
    configuration |= {f"{token}_token_id": getattr(model.config, f"{token}_token_id") for token in tokens}
    (directory / "config.json").write_text(json.dumps(configuration, indent=2))


def write_shards(tensors: dict[str, torch.Tensor], directory: Path, num_shards: int = 1) -> None:
    """Writes tensors to `model.safetensors`, or to several files with their index."""
    if num_shards == 1:
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        return
    places = {name: number % num_shards for number, name in enumerate(tensors)}
    files = [f"model-{number + 1:05d}-of-{num_shards:05d}.safetensors" for number in range(num_shards)]
    for number, file in enumerate(files):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == number}
        save_file(part, directory / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: files[place] for name, place in places.items()}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
