"""Small data sets in the shapes of the public ones, and runs on them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from components.data_processing.public_pairs.config import PublicPairsConfig
from components.data_processing.public_pairs.stage import run
from pathoflow.contract.output import StageOutput
from tests.support.pairs import new_output, picture

SLIDE_PX = 1400


def write_table(path: Path, rows: list[dict[str, str]], encoding: str = "utf-8") -> Path:
    """A CSV with these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(image_path: str, caption: str = "Lipoma.", **more: str) -> dict[str, str]:
    """A row in Quilt-1M's columns."""
    return {"caption": caption, "image_path": image_path, "split": "train", **more}


def write_json(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return path


def write_slide(path: Path, seed: int) -> Path:
    """A tiled TIFF of two resolutions, which OpenSlide opens as a slide; it shows `picture(seed, SLIDE_PX)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.asarray(picture(seed, SLIDE_PX))
    with tifffile.TiffWriter(path) as slide:
        options: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb"}
        slide.write(image, **options)
        slide.write(image[::4, ::4], subfiletype=1, **options)
    return path


def write_empty_slide(path: Path, side_px: int) -> Path:
    """A slide of any size of which one corner was scanned: a TIFF whose other tiles are left out."""
    num_tiles = (-(-side_px // 4096)) ** 2
    tiles = iter([np.zeros((4096, 4096, 3), np.uint8)] + [None] * (num_tiles - 1))
    shape, tile = (side_px, side_px, 3), (4096, 4096)
    tifffile.imwrite(path, tiles, shape=shape, dtype=np.uint8, tile=tile, compression="zlib", photometric="rgb")
    return path


def run_on(tmp_path: Path, *sources: dict[str, Any], **keys: Any) -> StageOutput:
    """The output of the stage for these sources, in this process."""
    out = new_output(tmp_path)
    keys = {"num_workers": 1} | keys
    run(PublicPairsConfig.model_validate({"sources": sources, **keys}), out=out)
    return out


def set_aside(out: StageOutput) -> list[dict[str, str]]:
    """Returns the quarantined records, in order."""
    return [json.loads(line) for line in (out.path / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]
