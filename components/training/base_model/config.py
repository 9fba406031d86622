"""Configuration of the `base_model` stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.contract.config import ImageKind, OutputKind, StageConfig
from pathoflow.modeling.tiny_shape import TinyShape


class BaseModelConfig(StageConfig):
    """Dimensions of the model that is built, and how many look-ups it gets to exercise on."""

    stage: ClassVar[str] = "base_model"
    inputs: ClassVar[tuple[str, ...]] = ("corpus", "reasoning_data")
    output: ClassVar[OutputKind] = "model"
    image: ClassVar[ImageKind] = "train"
    key_metric: ClassVar[str | None] = "num_parameters"

    shape: TinyShape = Field(default=TinyShape(), description="Dimensions of the model and of its vocabulary.")
    num_lookups: int = Field(
        default=0,
        ge=0,
        description="Texts without images, made from the options of reasoning_data: find the letter of an option. "
        "A model from random weights has to learn that first.",
    )
    seed: int = Field(default=0, ge=0, description="Decides the initial weights and the look-ups.")
