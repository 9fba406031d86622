"""The body text of a page that is read for it alone."""

from __future__ import annotations

from pathlib import Path

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.figures.pictures import Picture
from components.data_processing.textbook_pairs.page_reader import PageReader
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.records import Seen
from tests.components.data_processing.textbook_pairs.conftest import Sheet


def test_words_in_a_table_are_left_out_and_a_spot_that_is_too_small_to_be_a_picture_hides_none(tmp_path: Path) -> None:
    sheet = Sheet()
    sheet.text(160, 400, "The ducts are narrow and slit-like (Fig. 3.2A), and mitoses are rare.")
    sheet.image.save(tmp_path / "page.png")
    reader = PageReader(TextbookPairsConfig(books=(tmp_path,)))
    page = Page(tmp_path / "page.png", 0, "page", "book", "page.png")

    def read(reason: str) -> str:
        pictures = [Picture(Box(320, 195, 420, 225), reason)]
        seen = Seen(regions=[], pictures=pictures, skew_degrees=0.0)
        return " ".join(reader.read_text(page, seen).paragraphs)

    assert "(Fig. 3.2A)" in read("too_small")
    assert "(Fig. 3.2A)" not in read("table")
