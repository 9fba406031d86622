"""Configuration of the `toy` stage."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pathoflow.contract.config import StageConfig


class ToyConfig(StageConfig):
    """What the toy stage does."""

    stage: ClassVar[str] = "toy"
    key_metric: ClassVar[str | None] = "score"
    can_use_gpus: ClassVar[bool] = True

    text: str = Field(default="hello", description="What the output says.")
    num_items: int = Field(default=10, ge=0, le=1000, description="Records read.")
    num_bad: int = Field(default=0, ge=0, description="Records that are set aside.")
    item_s: float = Field(default=0.0, ge=0.0, description="Time that a record takes, in seconds.")
    num_steps: int = Field(default=0, ge=0, description="Steps, each of which finishes a part in scratch.")
    step_s: float = Field(default=0.0, ge=0.0, description="Time that a step takes, in seconds.")
    num_points: int = Field(default=0, ge=0, description="Points of the metric series `loss`.")
    big_bytes: int = Field(default=0, ge=0, description="Size of a large file in the output, in bytes.")
    score: float = Field(default=1.0, description="The final metric.")
    ending: Literal["return", "raise", "user_error", "link", "nan"] = Field(
        default="return", description="How it ends."
    )
    journal: Path | None = Field(default=None, description="Where each call and step leaves a line, for the test.")
    books: tuple[Path, ...] = Field(default=(), description="Files from outside that are read.")

    @model_validator(mode="after")
    def _good_ones_remain(self) -> ToyConfig:
        if self.num_bad > self.num_items:
            raise ValueError("num_bad exceeds num_items")
        return self

    def external_files(self) -> list[Path]:
        """The books."""
        return list(self.books)
