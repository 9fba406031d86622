"""Reads and checks the questions that are asked, with their images or grey ones."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from components.evaluation.vqa_benchmarks.config import VqaBenchmarksConfig
from pathoflow.contract.output import StageOutput
from pathoflow.data.image_io import encode_png, probe
from pathoflow.data.schemas import count_rows, read_rows
from pathoflow.data.trainable.rows import question_fault
from pathoflow.qa.question import Question

GREY = (127, 127, 127)


def sizes(question: Question) -> list[tuple[int, int]]:
    """Returns width and height of each image."""
    return [probe(data, max_pixels=sys.maxsize) for data in question.images]


def images(question: Question, *, blank: bool) -> list[bytes]:
    """Returns the encoded images, or uniform grey ones of the same sizes: what is right then was not seen."""
    return [_grey(size) for size in sizes(question)] if blank else list(question.images)


@lru_cache(maxsize=64)
def _grey(size: tuple[int, int]) -> bytes:
    return encode_png(Image.new("RGB", size, GREY))


def read_questions(directory: Path, config: VqaBenchmarksConfig, out: StageOutput) -> list[Question]:
    """Returns the held-out questions, or an evenly drawn part of them, in their order.

    A question that cannot be asked is quarantined, see `question_fault`.
    """
    num = count_rows(directory)
    chosen = set(random.Random(config.seed).sample(range(num), k=min(num, config.max_items)))
    out.num_in = len(chosen)
    rows = (row for place, row in enumerate(read_rows(directory)) if place in chosen)
    return list(_askable(rows, config, out))


def _askable(rows: Iterator[dict[str, Any]], config: VqaBenchmarksConfig, out: StageOutput) -> Iterator[Question]:
    for row in rows:
        if fault := question_fault(row, max_pixels=config.max_image_pixels):
            out.quarantine(row["mcq_id"], *fault)
        else:
            yield Question.of_row(row)
