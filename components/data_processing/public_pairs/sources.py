"""Describes the data sets that the stage reads: their files, and their licences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from pathoflow.contract.config import ExternalFolder

SLIDE_END_BYTES = 256 * 1024
"""Of a slide, which may hold gigabytes, this much at each end tells whether it changed."""


class _Source(BaseModel):
    """Fields of all data sets. Relative paths start at the stage's `root`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path_keys: ClassVar[tuple[str, ...]] = ()

    name: str = Field(pattern=r"^[a-z0-9_.-]+$", description="What its pairs have as source; no two are equal.")
    licence: str = Field(
        default="not stated", description="Under which terms you have it; copied to `sources.json` for the datasheet."
    )

    def below(self, root: Path) -> _Source:
        """Returns the same source with its paths below `root`."""
        paths = {key: root / value for key in self.path_keys if (value := getattr(self, key)) is not None}
        return self.model_copy(update=paths)

    def external_files(self) -> list[Path]:
        """Returns the files that are read whole."""
        return [path for path in self.paths() if not path.is_dir()]

    def external_folders(self) -> list[ExternalFolder]:
        """Returns the folders that are read."""
        return [ExternalFolder(path) for path in self.paths() if path.is_dir()]

    def paths(self) -> list[Path]:
        """Everything that the source must have."""
        return [value for key in self.path_keys if (value := getattr(self, key)) is not None]


class CsvSource(_Source):
    """Any folder or zip file of images with a CSV that says what they show."""

    path_keys: ClassVar[tuple[str, ...]] = ("table", "images")

    format: Literal["csv"]
    name: str = Field(default="public", pattern=r"^[a-z0-9_.-]+$", description="What its pairs have as source.")
    table: Path = Field(description="The CSV.")
    images: Path | None = Field(
        default=None,
        description="Folder or zip file that image paths are relative to. Default: `images/`, `images.zip` or the "
        "folder itself, whichever lies beside the table or records first.",
    )
    encoding: str = Field(default="utf-8-sig", description="The CSV's encoding, such as latin-1.")
    caption_column: str = Field(default="caption", description="The column with the captions.")
    image_column: str = Field(default="image_path", description="The column with the images' names.")
    split_column: str = Field(
        default="split", description="The column, if there is one, that follows the name in a pair's source."
    )
    group_column: str | None = Field(
        default=None, description="The column that names the slide, article or patient, whose pairs stay in one split."
    )

    def paths(self) -> list[Path]:
        """The table and its images."""
        return [self.table, self.images or images_beside(self.table)]


class Quilt1MSource(CsvSource):
    """Quilt-1M: `quilt_1M_lookup.csv` and the images; a video's frames, named `<video>_image_<id>`, stay together."""

    format: Literal["quilt_1m"]  # type: ignore[assignment]
    name: str = Field(default="quilt_1m", pattern=r"^[a-z0-9_.-]+$", description="What its pairs have as source.")


class PathGenSource(_Source):
    """PathGen-1.6M: captions for squares of whole-slide images, which you have from the TCGA."""

    path_keys: ClassVar[tuple[str, ...]] = ("records", "slides")

    format: Literal["pathgen"]
    name: str = Field(default="pathgen", pattern=r"^[a-z0-9_.-]+$", description="What its pairs have as source.")
    records: Path = Field(description="The JSON list with wsi_id, position and caption.")
    slides: Path = Field(description="Folder with the slides at any depth, each named as its wsi_id.")
    patch_px: int = Field(default=672, ge=16, le=4096, description="Side of a patch at level 0, in pixels.")
    jpeg_quality: int = Field(default=92, ge=50, le=100, description="JPEG quality of the patches.")
    slide_groups: int = Field(
        default=256,
        ge=1,
        le=4096,
        description="Into how many groups slides are divided, each slide whole: what shards and restarts count in.",
    )

    def external_folders(self) -> list[ExternalFolder]:
        """The slides, by their names, sizes and ends: they are too large to be hashed."""
        return [ExternalFolder(self.slides, SLIDE_END_BYTES)]


class PathCapSource(_Source):
    """PathCap: `data.json` and `images.zip`, figures of articles on PubMed Central."""

    path_keys: ClassVar[tuple[str, ...]] = ("records", "images")

    format: Literal["pathcap"]
    name: str = Field(default="pathcap", pattern=r"^[a-z0-9_.-]+$", description="What its pairs have as source.")
    records: Path = Field(description="The JSON list or object with caption, pmc_id and the image's name.")
    images: Path | None = Field(default=None, description="As of `csv`.")
    image_key: str | None = Field(
        default=None, description="The key with the image's name; found among the usual ones where none is given."
    )

    def paths(self) -> list[Path]:
        """The records and their images."""
        return [self.records, self.images or images_beside(self.records)]


class ArchSource(_Source):
    """ARCH: figures of textbooks and of articles. Its books are a part of PathMMU, which models are judged by."""

    path_keys: ClassVar[tuple[str, ...]] = ("folder",)

    format: Literal["arch"]
    name: str = Field(default="arch", pattern=r"^[a-z0-9_.-]+$", description="What its pairs have as source.")
    folder: Path = Field(description="Folder with `books_set/` and `pubmed_set/`, or one of them.")


Source = Annotated[
    CsvSource | Quilt1MSource | PathGenSource | PathCapSource | ArchSource, Field(discriminator="format")
]


def images_beside(table: Path) -> Path:
    """Returns the folder or zip file of images that belongs to a table by its place."""
    for candidate in (table.parent / "images", table.parent / "images.zip"):
        if candidate.exists():
            return candidate
    return table.parent
