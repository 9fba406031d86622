"""Configuration of the `toy_model` stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.contract.config import OutputKind, StageConfig


class ToyModelConfig(StageConfig):
    """What the toy model is like."""

    stage: ClassVar[str] = "toy_model"
    inputs: ClassVar[tuple[str, ...]] = ("toy",)
    output: ClassVar[OutputKind] = "model"

    num_weights: int = Field(default=8, ge=1, description="Bytes of the model.")
