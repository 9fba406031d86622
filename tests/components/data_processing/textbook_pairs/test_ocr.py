from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from components.data_processing.textbook_pairs.ocr import TextReader


def test_a_line_reads_the_same_the_first_time_and_later() -> None:
    """The first line is decoded by rapidocr itself, the others in half of its steps."""
    image = Image.new("RGB", (520, 48), "white")
    ImageDraw.Draw(image).text((10, 6), "Fibroadenoma of the breast", fill="black", font_size=30)
    reader, line = TextReader(), np.asarray(image)
    first, later = reader.read(line), reader.read(line)
    assert first == later
    assert "Fibroadenoma" in first[0]
    assert first[1] > 0.8
