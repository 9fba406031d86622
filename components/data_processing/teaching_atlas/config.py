"""Configuration of the `teaching_atlas` stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.contract.config import StageConfig


class TeachingAtlasConfig(StageConfig):
    """The content of the synthetic atlas, and how it is rendered."""

    stage: ClassVar[str] = "teaching_atlas"
    key_metric: ClassVar[str | None] = "num_images"

    seed: int = Field(default=0, ge=0, description="Seed of every specimen, caption and page.")
    num_public_train: int = Field(
        default=5000, ge=10, le=1_000_000, description="Captioned images in the public part's split `train`."
    )
    num_public_heldout: int = Field(
        default=600, ge=10, le=100_000, description="Captioned images in the public part's split `val`."
    )
    num_book_pages: int = Field(
        default=24, ge=3, le=120, description="Pages of the three books that are not held out, together."
    )
    num_heldout_pages: int = Field(default=6, ge=1, le=100, description="Pages of the held-out book.")
    image_size_px: int = Field(default=112, ge=56, le=1024, description="Side of the square public images, in pixels.")
    page_width_px: int = Field(
        default=1680,
        ge=1200,
        le=3360,
        description="Width of a scanned page in pixels; its height is 1.4 times that.",
    )
    jpeg_quality: int = Field(default=90, ge=50, le=100, description="JPEG quality of images and pages.")
    num_workers: int = Field(
        default=2, ge=1, le=64, description="Processes that render; the output does not depend on it."
    )
