"""Turns a public image folder with a CSV into image–caption pairs."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import ExifTags, Image

from components.data_processing.public_pairs.config import PublicPairsConfig, images_beside
from components.data_processing.public_pairs.image_store import ImageStore, open_store
from components.data_processing.public_pairs.table import Row, read_table
from pathoflow.errors import ConfigError, InputError
from pathoflow.images import UnreadableImage, decode, encode_png, image_columns, language_of
from pathoflow.output import StageOutput
from pathoflow.schemas import PAIRS, ShardWriter

LOOKUP_FILE = "quilt_1M_lookup.csv"
_PORTABLE = {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")}


def run(config: PublicPairsConfig, *, teaching_atlas: Path | None = None, out: StageOutput) -> None:
    """Writes `pairs/*.parquet`, one pair for each row of the CSV whose image can be used.

    Args:
        config: The stage's configuration.
        teaching_atlas: Read when the configuration names no CSV.
        out: Where the pairs go.

    Raises:
        ConfigError: There is neither a CSV nor an atlas.
        InputError: The CSV or the images as a whole cannot be read, or no row is good.
    """
    table, images = _sources(config, teaching_atlas)
    rows = list(read_table(table))
    out.num_in = len(rows)
    num_uses: Counter[str] = Counter()
    with open_store(images) as store, ShardWriter(out.path / "pairs", PAIRS, prefix="public") as writer:
        for done, row in enumerate(rows, 1):
            try:
                pair = _pair(row, store, config)
            except UnreadableImage as error:
                out.quarantine(f"{table.name}:{row.line} {row.image_path}", error.reason, error.detail)
            else:
                writer.write(pair | _identity(row, config.source, num_uses))
            out.progress(done, len(rows), "rows", quarantined=sum(out.quarantined.values()))
    out.num_out = writer.num_rows
    out.metric("num_pairs", writer.num_rows)
    if not writer.num_rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in out.quarantined.most_common())
        raise InputError(f"{table} gave no pair ({reasons or 'it has no rows'}). Correct the CSV or its images.")


def _sources(config: PublicPairsConfig, teaching_atlas: Path | None) -> tuple[Path, Path]:
    """The CSV, and the folder or zip file of its images."""
    if config.csv is not None:
        return config.csv, config.images or images_beside(config.csv)
    if teaching_atlas is None:
        raise ConfigError("public_pairs.csv: this recipe has no teaching atlas, so it must name a CSV.")
    table = teaching_atlas / "public" / LOOKUP_FILE
    return table, images_beside(table)


def _pair(row: Row, store: ImageStore, config: PublicPairsConfig) -> dict[str, Any]:
    """The pair of a row, without its name.

    Raises:
        UnreadableImage: The row cannot make a pair.
    """
    if not row.image_path.strip():
        raise UnreadableImage("missing_file", "the row names no image")
    if not row.caption.strip():
        raise UnreadableImage("empty_caption", "the row has no caption")
    data = store.read(row.image_path.strip(), max_bytes=config.max_image_bytes)
    image = decode(data, max_pixels=config.max_image_pixels)
    if not _is_portable(data):
        data = encode_png(image)
    return image_columns(data, image, PurePosixPath(row.image_path.strip()).name) | {
        "caption": row.caption.strip(),
        "inline_refs": [],
        "region": None,
        "language": language_of(row.caption),
    }


def _identity(row: Row, source: str, num_uses: Counter[str]) -> dict[str, Any]:
    """Source, source_id and pair_id; the second caption of an image is told from the first by `#2`."""
    split = row.split.strip()
    full_source = f"{source}/{split}" if split else source
    stem = PurePosixPath(row.image_path.strip()).stem
    num_uses[f"{full_source}/{stem}"] += 1
    number = num_uses[f"{full_source}/{stem}"]
    source_id = stem if number == 1 else f"{stem}#{number}"
    return {"source": full_source, "source_id": source_id, "pair_id": f"{full_source}/{source_id}"}


def _is_portable(data: bytes) -> bool:
    """Whether every reader shows these bytes as `decode` did: a plain JPEG or PNG that need not be turned."""
    with Image.open(io.BytesIO(data)) as image:
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return (image.format, image.mode) in _PORTABLE and upright and not image.has_transparency_data
