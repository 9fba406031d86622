"""Renders the public part: a zip file of captioned images, and a table like `quilt_1M_lookup.csv` of Quilt-1M."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.data_processing.teaching_atlas.micrographs import render
from components.data_processing.teaching_atlas.specimens import (
    DIAGNOSES,
    caption,
    draw_specimen,
    finding_phrases,
)

ARCHIVE_NAME = "images.zip"
LOOKUP_NAME = "quilt_1M_lookup.csv"
LOOKUP_COLUMNS = (
    "caption",
    "image_path",
    "subset",
    "split",
    "pathology",
    "roi_text",
    "noisy_text",
    "corrected_text",
    "med_umls_ids",
    "magnification",
    "height",
    "width",
)
_SEED_BRANCH = {"train": 1, "val": 2}


@dataclass(frozen=True)
class ImageTask:
    """One public image to make; its number and split alone decide what it shows."""

    split: str
    number: int
    seed: int
    size_px: int
    jpeg_quality: int

    @property
    def image_path(self) -> str:
        """Returns the file name inside the zip file, and in the table."""
        return f"{self.split}_{self.number:06d}.jpg"


def image_tasks(*, seed: int, num_train: int, num_heldout: int, size_px: int, jpeg_quality: int) -> list[ImageTask]:
    """Returns the images of both splits, train first; diagnoses take turns, so that each split is balanced."""
    return [
        ImageTask(split, number, seed, size_px, jpeg_quality)
        for split, num in (("train", num_train), ("val", num_heldout))
        for number in range(num)
    ]


def make_image(task: ImageTask) -> tuple[bytes, dict[str, Any]]:
    """Renders one image; returns its JPEG bytes and its truth: diagnosis, subfield, findings and caption."""
    rng = np.random.default_rng([task.seed, _SEED_BRANCH[task.split], task.number])
    specimen = draw_specimen(rng, DIAGNOSES[task.number % len(DIAGNOSES)])
    words = caption(specimen, rng)
    image = render(specimen, rng, (task.size_px, task.size_px))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=task.jpeg_quality)
    return encoded.getvalue(), {
        "image": f"public/{ARCHIVE_NAME}/{task.image_path}",
        "split": task.split,
        "diagnosis": specimen.diagnosis.id,
        "subfield": specimen.diagnosis.subfield,
        "findings": specimen.findings,
        "phrases": finding_phrases(specimen, "en"),
        "caption": words,
        "size_px": [task.size_px, task.size_px],
    }


def write_archive(path: Path, images: Iterable[tuple[str, bytes]]) -> None:
    """Writes named images to a zip file, as they are and with a fixed date, so that equal images make equal bytes.

    One file instead of thousands, as Quilt-1M is published too: DVC's cost goes by files (ADR 0004).
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in images:
            archive.writestr(zipfile.ZipInfo(name), content)


def write_lookup(path: Path, truths: Iterable[dict[str, Any]]) -> None:
    """Writes the table of all images; lists stand in its cells as Quilt-1M writes them, as Python literals."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOOKUP_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for truth in truths:
            width, height = truth["size_px"]
            writer.writerow(
                {
                    "caption": truth["caption"],
                    "image_path": Path(truth["image"]).name,
                    "subset": "quilt",
                    "split": truth["split"],
                    "pathology": [truth["subfield"]],
                    "roi_text": truth["phrases"],
                    "noisy_text": [truth["caption"].lower()],
                    "corrected_text": [truth["caption"]],
                    "med_umls_ids": [],
                    "magnification": 0.0,
                    "height": height,
                    "width": width,
                }
            )
