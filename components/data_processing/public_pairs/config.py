"""Configuration of the `public_pairs` stage."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from components.data_processing.public_pairs.sources import Source
from pathoflow.contract.config import ExternalFolder, StageConfig
from pathoflow.errors import InputError


class PublicPairsConfig(StageConfig):
    """The public data sets to read, and rules for captions and images."""

    stage: ClassVar[str] = "public_pairs"
    inputs: ClassVar[tuple[str, ...]] = ("teaching_atlas",)
    key_metric: ClassVar[str | None] = "num_pairs"
    can_shard: ClassVar[bool] = True

    sources: tuple[Source, ...] = Field(
        default=(), description="The data sets, by their `format`; none reads the teaching atlas's public part."
    )
    root: Path | None = Field(
        default=None, description="Folder at which relative paths of the sources start; null: they are absolute."
    )
    max_caption_chars: int = Field(
        default=20_000, ge=1, description="Records with longer captions are set aside, in characters."
    )
    max_image_pixels: int = Field(
        default=50_000_000, ge=1, description="Larger images are set aside before a pixel is decoded."
    )
    max_image_bytes: int = Field(
        default=64 * 2**20,
        ge=1,
        description="Larger image files (unpacked, in a zip) are set aside unread, in bytes.",
    )
    chunk_rows: int = Field(
        default=512, ge=1, le=100_000, description="Records of a table that are read together and never again."
    )
    num_workers: int = Field(
        default=2, ge=1, le=64, description="Processes that decode images; the output does not depend on it."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {twice[0]}: give each a name of its own")
        return self

    def located(self) -> list[Source]:
        """Returns the sources with their paths below `root`.

        Raises:
            InputError: A file or folder does not exist.
        """
        located: list[Source] = []
        for source in self.sources:
            placed: Source = source.below(self.root) if self.root else source  # type: ignore[assignment]
            for path in placed.paths():
                if not (path.is_absolute() or self.root):
                    raise InputError(
                        f"public_pairs: {path} of {source.name} is relative, and public_pairs.root, where it would "
                        "start, is not set. Set it to the folder with the data sets."
                    )
                if not path.exists():
                    raise InputError(
                        f"public_pairs: {path} of {source.name} does not exist. Set public_pairs.root to the folder "
                        "with the data sets, or correct public_pairs.sources."
                    )
            located.append(placed)
        return located

    def external_files(self) -> list[Path]:
        """Returns the tables, records and archives."""
        return [file for source in self.located() for file in source.external_files()]

    def external_folders(self) -> list[ExternalFolder]:
        """Returns the folders of images and slides."""
        return [folder for source in self.located() for folder in source.external_folders()]
