"""Small pairs and corpora of real image files for the tests of the stages that read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pathoflow.contract.output import StageOutput
from pathoflow.data.image_io import encode_jpeg, image_columns, language_of
from pathoflow.data.schemas import CORPUS, PAIRS, ShardWriter, read_rows


def picture(seed: int, side_px: int = 64) -> Image.Image:
    """A picture that looks like no other: large soft patches of random colour."""
    patches = np.random.default_rng(seed).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((side_px, side_px), Image.Resampling.BICUBIC)


def pair(
    source_id: str,
    caption: str,
    image: Image.Image | None = None,
    *,
    source: str = "quilt_1m/train",
    inline_refs: Sequence[str] = (),
    quality: int = 92,
) -> dict[str, Any]:
    """One row of the pair schema; the picture follows from the source_id unless one is given."""
    image = image or picture(sum(source_id.encode()) * 1000 + len(source_id))
    return {
        **image_columns(encode_jpeg(image, quality), image, f"{source_id}.jpg"),
        "pair_id": f"{source}/{source_id}",
        "caption": caption,
        "inline_refs": list(inline_refs),
        "source": source,
        "source_id": source_id,
        "region": None,
        "language": language_of(caption),
    }


def write_pairs(directory: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """An output of a stage that makes pairs."""
    with ShardWriter(directory / "pairs", PAIRS) as writer:
        for row in rows:
            writer.write(row)
    return directory


def write_corpus(directory: Path, **splits: Iterable[dict[str, Any]]) -> Path:
    """An output of the `corpus` stage; splits that are not given are empty."""
    for split in ("train", "dev", "heldout"):
        with ShardWriter(directory / split, CORPUS, prefix=split) as writer:
            for row in splits.get(split, ()):
                writer.write(row | {"split": split})
    return directory


def new_output(directory: Path) -> StageOutput:
    """An output to run a stage into."""
    return StageOutput(directory / "output", directory / "scratch")


def rows_of(directory: Path) -> list[dict[str, Any]]:
    """All rows below a directory."""
    return list(read_rows(directory))


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory by its relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
