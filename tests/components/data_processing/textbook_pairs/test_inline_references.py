"""In-line references come from a page and its neighbours in the same book."""

from __future__ import annotations

from pathlib import Path

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.inline_references import with_references
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.records import (
    Figure,
    Mentions,
    PageRecord,
    Panel,
    ReadPage,
    Seen,
    Text,
    TextSource,
    UnnumberedMention,
)

BOX = Box(0, 0, 10, 10)


def page(position: int, *paragraphs: str, book: str = "book", panels: str = "") -> ReadPage:
    figure = Figure(
        number="3-2",
        caption_box=BOX,
        panels=[Panel(label=label, box=BOX, caption="Lipoma.", crop="c.jpg") for label in panels],
    )
    seen = Seen(regions=[], pictures=[], skew_degrees=0.0)
    record = PageRecord(width=840, height=1176, figures=[figure] if panels else [], seen=seen)
    text = Text(paragraphs=list(paragraphs), text_source=TextSource(kind="ocr"))
    return ReadPage(Page(Path(f"{book}.pdf"), position, book, book, book), position, record, text)


def references(pages: list[ReadPage], reach: int, unnumbered: dict[int, Mentions] | None = None) -> list[list[str]]:
    """Returns the references of each panel of the first page's figure."""
    return with_references(pages, unnumbered or {}, reach)[0].references[0]


def test_a_page_that_was_set_aside_keeps_its_place_among_the_neighbours() -> None:
    pages = [page(0, panels="A"), page(2, "Ducts are narrow (Fig. 3-2).")]
    assert references(pages, reach=1) == [[]]
    assert references(pages, reach=2) == [["Ducts are narrow (Fig. 3-2)."]]


def test_pages_of_another_book_are_no_neighbours() -> None:
    pages = [page(0, panels="A"), page(1, "Ducts are narrow (Fig. 3-2).", book="other")]
    assert references(pages, reach=1) == [[]]


def test_a_sentence_over_the_end_of_a_page_is_whole_and_belongs_to_its_panels_alone() -> None:
    pages = [page(0, "Ducts are", panels="AB"), page(1, "narrow (Fig. 3-2B). Mitoses are rare.")]
    assert references(pages, reach=1) == [[], ["Ducts are narrow (Fig. 3-2B)."]]


def test_mentions_without_a_number_stand_in_the_order_of_the_text() -> None:
    pages = [page(0, "The left picture shows it. See Fig. 3-2A.", panels="AB")]
    mention = UnnumberedMention(figure=0, panel="A", sentence="The left picture shows it.")
    elsewhere = UnnumberedMention(figure=1, panel="", sentence="See Fig. 3-2A.")
    found = {0: Mentions(found=[mention, elsewhere])}
    assert references(pages, 0, found) == [["The left picture shows it.", "See Fig. 3-2A."], []]
