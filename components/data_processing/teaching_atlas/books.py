"""Renders the planned books: page images, PDF files that hold some of them, and the truth about every panel."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.data_processing.teaching_atlas.book_parts import Book, BookStyle, Figure, Page
from components.data_processing.teaching_atlas.book_plans import panel_caption
from components.data_processing.teaching_atlas.scanning import scan, scanned_box
from components.data_processing.teaching_atlas.typesetting import Box, set_page

_SEED_BRANCH = 4
_SCAN_DPI = 200.0


@dataclass(frozen=True)
class PageTask:
    """One page to make."""

    page: Page
    style: BookStyle
    seed: tuple[int, ...]
    width_px: int
    jpeg_quality: int


@dataclass(frozen=True)
class ScannedPage:
    """A finished page as JPEG, and the box of each panel on it by (figure number, panel letter), in 0..1."""

    jpeg: bytes
    boxes: dict[tuple[str, str], Box]


def page_tasks(books: list[Book], *, seed: int, width_px: int, jpeg_quality: int) -> list[PageTask]:
    """Returns all pages of all books in order."""
    return [
        PageTask(page, book.style, (seed, _SEED_BRANCH, place, page.index), width_px, jpeg_quality)
        for place, book in enumerate(books)
        for page in book.pages
    ]


def make_page(task: PageTask) -> ScannedPage:
    """Typesets, scans and compresses one page."""
    clean, boxes = set_page(task.page, task.style)
    rng = np.random.default_rng(task.seed)
    image, angle = scan(clean, rng, spine_left=task.page.number % 2 == 1, width_px=task.width_px)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=task.jpeg_quality)
    return ScannedPage(jpeg.getvalue(), {key: scanned_box(box, angle, clean.size) for key, box in boxes.items()})


def page_file(style: BookStyle, page: int) -> str:
    """Returns the file below `books/` that holds a page of a book, counted from 1."""
    return f"{style.stem}.pdf" if style.container == "pdf" else f"{style.stem}/{style.stem}_{page:03d}.jpg"


def write_book(folder: Path, style: BookStyle, pages: list[ScannedPage], *, jpeg_quality: int) -> None:
    """Writes a book below `folder`, as a PDF file or as a folder of numbered page images."""
    if style.container == "folder":
        (folder / style.stem).mkdir(parents=True)
        for number, page in enumerate(pages, start=1):
            (folder / page_file(style, number)).write_bytes(page.jpeg)
        return
    folder.mkdir(parents=True, exist_ok=True)
    first, *others = (Image.open(io.BytesIO(page.jpeg)) for page in pages)
    first.save(
        folder / page_file(style, 1),
        save_all=True,
        append_images=others,
        resolution=_SCAN_DPI * first.width / 1680,
        quality=jpeg_quality,
        # Without dates the same pages give the same bytes.
        creationDate=None,
        modDate=None,
    )


def pair_truths(book: Book, pages: list[ScannedPage]) -> list[dict[str, Any]]:
    """Returns the pairs that a perfect reader of the book would extract, one per panel in reading order."""
    mentions = [(page.index, mention) for page in book.pages for mention in page.mentions]
    truths = []
    for page, scanned in zip(book.pages, pages, strict=True):
        for figure in (block for block in page.blocks if isinstance(block, Figure)):
            for panel in figure.panels:
                specimen = panel.specimen
                truths.append(
                    {
                        "panel_id": f"{book.style.stem}/p{page.index}/{figure.number}/{panel.letter or 'whole'}",
                        "file": page_file(book.style, page.index),
                        "book": book.style.stem,
                        "page": page.index,
                        "figure": figure.number,
                        "panel": panel.letter,
                        "box": [round(side, 5) for side in scanned.boxes[figure.number, panel.letter]],
                        "caption": panel_caption(figure, panel, book.style.language),
                        "title": figure.title,
                        "part": panel.part,
                        "inline_refs": [
                            mention.sentence
                            for index, mention in mentions
                            if mention.figure == figure.number
                            and mention.letter in ("", panel.letter)
                            and abs(index - page.index) <= 1
                        ],
                        "language": book.style.language,
                        "diagnosis": specimen.diagnosis.id,
                        "subfield": specimen.diagnosis.subfield,
                        "findings": specimen.findings,
                    }
                )
    return truths
