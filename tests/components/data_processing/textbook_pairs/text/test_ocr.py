from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.text.ocr import TextReader


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


def written(width: int, height: int, at: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).text(at, "Fibroadenoma of the breast", fill="black", font_size=30)
    return image


def test_a_line_is_read_alike_every_time(reader: TextReader) -> None:
    line = np.asarray(written(520, 48, (10, 6)))
    first, later = reader.read(line), reader.read(line)
    assert first == later
    assert "Fibroadenoma" in first[0]
    assert first[1] > 0.8


@pytest.mark.parametrize("height", [600, 3000])
def test_lines_are_found_where_they_stand_on_pages_of_any_size(reader: TextReader, height: int) -> None:
    (box,) = reader.find_lines(np.asarray(written(900, height, (200, 300))))
    assert box.iou(Box(200, 304, 580, 336)) > 0.6
