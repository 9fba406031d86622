"""Configuration of the stand-in for `vqa_benchmarks`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.contract.config import StageConfig


class VqaBenchmarksConfig(StageConfig):
    stage: ClassVar[str] = "vqa_benchmarks"
    inputs: ClassVar[tuple[str, ...]] = ("corpus", "rl")

    accuracy: float = Field(default=0.75, description="What it finds.")
    num_items: int = Field(default=100, description="Questions.")
    first_item: int = Field(default=0, description="The first question's number.")
    blank: float = Field(default=0.25, description="The accuracy without images.")
