"""Configuration of the `public_pairs` stage."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from pathoflow.config import StageConfig
from pathoflow.errors import InputError


class PublicPairsConfig(StageConfig):
    """Which CSV and images are read, and what an image may be."""

    stage: ClassVar[str] = "public_pairs"
    inputs: ClassVar[tuple[str, ...]] = ("teaching_atlas",)
    key_metric: ClassVar[str | None] = "num_pairs"

    csv: Path | None = Field(
        default=None,
        description="CSV with columns caption, image_path and perhaps split, read instead of the atlas's.",
    )
    images: Path | None = Field(
        default=None,
        description="Folder or zip file that image_path is relative to. Default: `images/`, `images.zip` or "
        "the folder itself, whichever lies beside the CSV first.",
    )
    source: str = Field(
        default="quilt_1m",
        pattern=r"^[a-z0-9_.-]+$",
        description="Name of the data set; a pair's source is this name and its split.",
    )
    max_image_pixels: int = Field(
        default=50_000_000, ge=1, description="Larger images are set aside before a pixel is decoded."
    )
    max_image_bytes: int = Field(
        default=64 * 2**20,
        ge=1,
        description="Larger image files (unpacked, in a zip) are set aside unread, in bytes.",
    )

    @model_validator(mode="after")
    def _check_images(self) -> Self:
        if self.images is not None and self.csv is None:
            raise ValueError("images belong to a csv: set public_pairs.csv too")
        return self

    def external_files(self) -> list[Path]:
        """The CSV, and the zip file or every file of the image folder."""
        files = [path for path in (self.csv, self.images_location()) if path is not None]
        for path in files:
            if not path.exists():
                raise InputError(f"public_pairs: {path} does not exist. Correct public_pairs.csv or .images.")
        return [
            file
            for path in files
            for file in (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
        ]

    def images_location(self) -> Path | None:
        """Where the images of `csv` are: as configured, or found beside it; None without a `csv`."""
        if self.images is not None or self.csv is None:
            return self.images
        return images_beside(self.csv)


def images_beside(csv: Path) -> Path:
    """The folder or zip file of images that belongs to a CSV by its place."""
    for candidate in (csv.parent / "images", csv.parent / "images.zip"):
        if candidate.exists():
            return candidate
    return csv.parent
