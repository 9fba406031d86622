"""Describes models' dimensions, and the numbers of parameters that follow from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathoflow.errors import InputError
from pathoflow.modeling.tiny_shape import TinyShape


@dataclass(frozen=True)
class Text:
    """Dimensions of Qwen2.5's language model, under their names in `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int

    @property
    def kv_size(self) -> int:
        """Width of the keys of one token and layer, and of the values."""
        return self.hidden_size // self.num_attention_heads * self.num_key_value_heads

    @property
    def embeddings(self) -> int:
        """Parameters of the embedding, and of the head where the two are not tied."""
        return self.vocab_size * self.hidden_size

    @property
    def layer(self) -> int:
        """Parameters of one layer: projections (biases but for the last), feed-forward, two norms."""
        hidden, kv = self.hidden_size, self.kv_size
        attention = 2 * hidden * hidden + 2 * hidden * kv + hidden + 2 * kv
        return attention + 3 * hidden * self.intermediate_size + 2 * hidden


@dataclass(frozen=True)
class Vision:
    """Dimensions of Qwen2.5-VL's vision tower, under their names in `config.json`."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    out_hidden_size: int
    fullatt_block_indexes: tuple[int, ...]
    in_channels: int = 3
    patch_size: int = 14
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2
    window_size: int = 112

    @property
    def patch_values(self) -> int:
        """Numbers of one patch."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def merged_size(self) -> int:
        """Width of the patches that become one token, side by side."""
        return self.hidden_size * self.spatial_merge_size**2

    @property
    def block(self) -> int:
        """Parameters of one block, biases included."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return 4 * hidden * hidden + 4 * hidden + 3 * hidden * inner + 2 * inner + hidden + 2 * hidden

    @property
    def tower(self) -> int:
        """Parameters before the merger."""
        return self.patch_values * self.hidden_size + self.depth * self.block

    @property
    def merger(self) -> int:
        """Parameters of the merger, biases included."""
        wide, out = self.merged_size, self.out_hidden_size
        return self.hidden_size + wide * wide + wide + wide * out + out


@dataclass(frozen=True)
class VisionLanguage:
    """Dimensions of a Qwen2.5-VL. Its parts bear the names that `modeling.flops` looks for."""

    text_config: Text
    vision_config: Vision
    tie_word_embeddings: bool

    @property
    def head(self) -> int:
        """Parameters of the head that are not the embedding's."""
        return 0 if self.tie_word_embeddings else self.text_config.embeddings

    @property
    def language(self) -> int:
        """Parameters of the language model, embedding and head included."""
        text = self.text_config
        return text.embeddings + text.num_hidden_layers * text.layer + text.hidden_size + self.head

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.vision_config.tower + self.vision_config.merger + self.language

    @property
    def kv_values(self) -> int:
        """Numbers that generation keeps of one token: keys and values of all layers."""
        return 2 * self.text_config.num_hidden_layers * self.text_config.kv_size

    def adapters(self, rank: int) -> int:
        """Returns the parameters of LoRA on the seven projections of every layer (`training.trainable_weights`)."""
        text = self.text_config
        hidden, kv, inner = text.hidden_size, text.kv_size, text.intermediate_size
        widths = (2 * (hidden + hidden), 2 * (hidden + kv), 3 * (hidden + inner))
        return text.num_hidden_layers * rank * sum(widths)


@dataclass(frozen=True)
class Tower:
    """Dimensions of one of CLIP's two towers."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_tokens: int

    @property
    def layer(self) -> int:
        """Parameters of one layer: attention, feed-forward and two norms, with biases."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return 4 * hidden * hidden + 4 * hidden + 2 * hidden * inner + inner + hidden + 4 * hidden


@dataclass(frozen=True)
class Clip:
    """Dimensions of a CLIP."""

    vision: Tower
    text: Tower
    vocab_size: int
    projection_dim: int
    image_size: int
    patch_size: int

    @property
    def parameters(self) -> int:
        """All parameters."""
        vision, text = self.vision, self.text
        patches = 3 * self.patch_size**2 * vision.hidden_size
        # A class embedding, and norms before and after the image tower's layers.
        images = patches + vision.hidden_size * (1 + vision.num_tokens + 4)
        words = text.hidden_size * (self.vocab_size + text.num_tokens + 2)
        layers = sum(tower.num_hidden_layers * tower.layer for tower in (vision, text))
        projections = self.projection_dim * (vision.hidden_size + text.hidden_size)
        # One more is the temperature.
        return images + words + layers + projections + 1

    @property
    def image_bytes(self) -> int:
        """Bytes of one decoded image."""
        return 3 * self.image_size**2


_QWEN_VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
_FULL_ATTENTION = (7, 15, 23, 31)

VISION_LANGUAGE = {
    "Qwen/Qwen2.5-VL-3B-Instruct": VisionLanguage(
        Text(151_936, 2048, 11_008, 36, 16, 2),
        Vision(**_QWEN_VISION, out_hidden_size=2048, fullatt_block_indexes=_FULL_ATTENTION),
        tie_word_embeddings=True,
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": VisionLanguage(
        Text(152_064, 3584, 18_944, 28, 28, 4),
        Vision(**_QWEN_VISION, out_hidden_size=3584, fullatt_block_indexes=_FULL_ATTENTION),
        tie_word_embeddings=False,
    ),
}
"""Published Qwen2.5-VL. Source: `config.json` of each repository on the hub."""

CLIP = {
    "openai/clip-vit-base-patch32": Clip(
        Tower(768, 3072, 12, 12, 50), Tower(512, 2048, 12, 8, 77), 49_408, 512, 224, 32
    ),
    "openai/clip-vit-base-patch16": Clip(
        Tower(768, 3072, 12, 12, 197), Tower(512, 2048, 12, 8, 77), 49_408, 512, 224, 16
    ),
    "openai/clip-vit-large-patch14": Clip(
        Tower(1024, 4096, 24, 16, 257), Tower(768, 3072, 12, 12, 77), 49_408, 768, 224, 14
    ),
}
"""Published CLIP. Source: `config.json` of each repository on the hub."""


def tiny_vision_language(shape: TinyShape) -> VisionLanguage:
    """Returns the shape that `modeling.tiny_model.build_tiny_model` builds, with the full vocabulary."""
    return VisionLanguage(
        Text(
            shape.vocabulary_size,
            shape.hidden_size,
            shape.intermediate_size,
            shape.num_layers,
            shape.num_heads,
            shape.num_heads,
        ),
        Vision(
            shape.vision_depth,
            shape.vision_hidden_size,
            shape.vision_intermediate_size,
            shape.vision_num_heads,
            shape.hidden_size,
            (shape.vision_depth - 1,),
        ),
        tie_word_embeddings=True,
    )


def tiny_clip(tiny: Any) -> Clip:
    """Returns the shape that pathoclip builds from a `TinyClip`, with the full vocabulary."""
    tokens = (tiny.image_size_px // tiny.patch_size_px) ** 2 + 1
    vision = Tower(tiny.vision_width, 4 * tiny.vision_width, tiny.vision_depth, tiny.num_heads, tokens)
    text = Tower(tiny.text_width, 4 * tiny.text_width, tiny.text_depth, tiny.num_heads, tiny.max_length_tokens)
    return Clip(vision, text, tiny.vocabulary_size, tiny.embedding_size, tiny.image_size_px, tiny.patch_size_px)


def vision_language(source: str | Path) -> VisionLanguage:
    """Returns the shape of the Qwen2.5-VL in a directory, or of a known one by name.

    Raises:
        InputError: It is neither.
    """
    if (known := VISION_LANGUAGE.get(str(source))) is not None:
        return known
    values = _configuration(source, VISION_LANGUAGE)
    # Published files have the text's values at the top, files that transformers 5 wrote in a part of their own.
    text, vision = values.get("text_config", values), values["vision_config"]
    tied = values.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    patch = {name: vision[name] for name in ("patch_size", "spatial_merge_size", "window_size") if name in vision}
    return VisionLanguage(
        Text(**{name: text[name] for name in Text.__dataclass_fields__}),
        Vision(
            **{name: vision[name] for name in ("depth", "hidden_size", "intermediate_size", "num_heads")},
            out_hidden_size=vision["out_hidden_size"],
            fullatt_block_indexes=tuple(vision["fullatt_block_indexes"]),
            **patch,
        ),
        tied,
    )


def clip(source: str | Path) -> Clip:
    """Returns the shape of the CLIP in a directory, or of a known one by name.

    Raises:
        InputError: It is neither.
    """
    if (known := CLIP.get(str(source))) is not None:
        return known
    values = _configuration(source, CLIP)
    # What equals the defaults of transformers' CLIPConfig, which are those of ViT-B/32, is not in published files.
    defaults = {"num_hidden_layers": 12, "num_attention_heads": 12}
    vision = {"hidden_size": 768, "intermediate_size": 3072, "image_size": 224, "patch_size": 32} | defaults
    text = {"hidden_size": 512, "intermediate_size": 2048, "max_position_embeddings": 77, "vocab_size": 49_408}
    vision |= values["vision_config"]
    text |= defaults | {"num_attention_heads": 8} | values["text_config"]
    num_tokens = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    return Clip(
        _tower(vision, num_tokens),
        _tower(text, text["max_position_embeddings"]),
        text["vocab_size"],
        values.get("projection_dim", 512),
        vision["image_size"],
        vision["patch_size"],
    )


def _tower(values: Mapping[str, Any], num_tokens: int) -> Tower:
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return Tower(**{size: values[size] for size in sizes}, num_tokens=num_tokens)


def _configuration(source: str | Path, known: dict[str, Any]) -> dict[str, Any]:
    file = Path(source) / "config.json"
    try:
        values: dict[str, Any] = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(
            f"The dimensions of {source} are not known: it is neither a folder with a config.json nor one of "
            f"{', '.join(known)}. Fetch the model and name its folder."
        ) from error
    return values
