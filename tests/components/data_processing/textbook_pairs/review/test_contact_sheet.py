from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.records import (
    Figure,
    PageRecord,
    Panel,
    ReadPage,
    Rejected,
    Seen,
    Text,
    TextSource,
)
from components.data_processing.textbook_pairs.review.contact_sheet import contact_sheet, page_picture

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def reviewed(tmp_path: Path) -> tuple[ReadPage, bytes]:
    Image.new("RGB", (840, 1176), "white").save(tmp_path / "page.png")
    box = Box(10, 10, 200, 200)
    figure = Figure(
        number="3-2",
        caption_box=Box(10, 210, 200, 240),
        panels=[Panel(label="A", box=box, caption=f"Ducts {SCRIPT}", crop="c.jpg")],
        labels_from="order",
    )
    record = PageRecord(
        width=840,
        height=1176,
        figures=[figure],
        rejected=[Rejected(box=box.shifted(300, 0), reason="qr_code")],
        seen=Seen(regions=[], pictures=[], skew_degrees=0.0),
    )
    page = Page(tmp_path / "page.png", 0, "page", "book", f"{SCRIPT}.png")
    text = Text(paragraphs=[], text_source=TextSource())
    read = ReadPage(page, 0, record, text, [[[f"See Fig. 3-2A {SCRIPT}"]]])
    return read, page_picture(page, TextbookPairsConfig(contact_width_px=300))


def test_it_shows_pairs_references_and_what_was_rejected(reviewed: tuple[ReadPage, bytes]) -> None:
    html = contact_sheet([reviewed], 7)
    for shown in ("1 of 7 pages", "Figure 3-2", "Ducts", "See Fig. 3-2A", "qr_code", "reading order", 'class="panel"'):
        assert shown in html
    assert html.count("data:image/jpeg;base64,") == 1
    assert html == contact_sheet([reviewed], 7)


def test_what_was_read_on_a_page_is_text_and_nothing_else(reviewed: tuple[ReadPage, bytes]) -> None:
    assert "<script" not in contact_sheet([reviewed], 1)
