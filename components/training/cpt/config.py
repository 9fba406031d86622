"""Configuration of the `cpt` stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.modeling.source_config import SourceConfig
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.training.config import FineTuningConfig


class CptConfig(SourceConfig, FineTuningConfig):
    """Which model learns to read micrographs, and from what share of texts alone."""

    stage: ClassVar[str] = "cpt"
    inputs: ClassVar[tuple[str, ...]] = ("corpus", "reasoning_data")
    key_metric: ClassVar[str | None] = "final_loss"

    model: str = Field(
        default="Qwen/Qwen2.5-VL-7B-Instruct",
        min_length=1,
        description="A Qwen2.5-VL to start from: a name on the model hub (with `revision`), a directory by its "
        "absolute path, or `tiny` to build one with random weights and a tokenizer learned from the texts.",
    )
    tiny: TinyShape = Field(default=TinyShape(), description="Dimensions of the model if `model` is `tiny`.")
    max_pixels: int = Field(
        default=262_144,
        ge=784,
        le=16_777_216,
        description="Larger images are scaled down to this many pixels; later stages keep it. 784 px are one token.",
    )
    use_inline_references: bool = Field(
        default=True, description="Let sentences of the text that refer to a figure follow its caption."
    )
    num_lookups: int = Field(
        default=0,
        ge=0,
        description="Texts without images, made from the options of reasoning_data: find the letter of an option. "
        "A model from random weights has to learn that first; a pretrained one can do it.",
    )
    lookup_share: float = Field(
        default=0.25,
        ge=0.0,
        le=1.0,
        description="Share of these texts that is mixed among the captions; the others come before all captions.",
    )
    lookup_weight: float = Field(
        default=1.0, gt=0.0, le=1000.0, description="Weight in the loss of the letter in such a text."
    )
