"""Configuration of the stand-in for `pathoclip`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.contract.config import OutputKind, StageConfig


class PathoclipConfig(StageConfig):
    stage: ClassVar[str] = "pathoclip"
    inputs: ClassVar[tuple[str, ...]] = ("corpus",)
    output: ClassVar[OutputKind] = "model"

    num_bytes: int = Field(default=1000, ge=1, description="Size of the weights.")
