"""Parts of a planned book, before it is typeset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.data_processing.teaching_atlas.canvas import Colour
from components.data_processing.teaching_atlas.specimens import Language, Specimen


@dataclass(frozen=True)
class BookStyle:
    """The looks of one book.

    Attributes:
        stem: Name of its file or folder, without the file type.
        container: A PDF file of scanned pages, or a folder of page images.
        label: How panels are marked, on the picture and in the caption; `A` stands for the panel's letter.
        label_corner: Corner of a panel in which its label stands.
        accent: Colour of headings and figure titles.
        first_chapter: Number of its first chapter.
        first_page_number: Number printed on its first page.
        panel_gap_px: White space between two panels of a page 1680 px wide.
    """

    stem: str
    language: Language
    container: Literal["pdf", "folder"]
    label: Literal["A", "a", "(a)"]
    label_corner: Literal["lower left", "upper left"]
    accent: Colour
    first_chapter: int
    first_page_number: int
    panel_gap_px: int

    def mark(self, letter: str) -> str:
        """Returns a panel's label as this book prints it on the picture."""
        return self.label.replace("a", letter.lower()).replace("A", letter)


@dataclass(frozen=True)
class Panel:
    """One picture of a figure; `letter` is empty where the figure has no other panel."""

    letter: str
    specimen: Specimen
    part: str
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Figure:
    """Panels under one number and title, `num_columns` beside each other."""

    number: str
    title: str
    panels: tuple[Panel, ...]
    num_columns: int


@dataclass(frozen=True)
class Heading:
    """A line that opens a chapter (level 1) or a section (level 2)."""

    text: str
    level: Literal[1, 2]


@dataclass(frozen=True)
class Paragraph:
    """Body text; `qr_caption` puts a QR code with that caption at its right."""

    sentences: tuple[str, ...]
    qr_caption: str | None = None


@dataclass(frozen=True)
class Table:
    """A ruled table under a title line."""

    title: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A line chart over a title line."""

    title: str
    curves: tuple[tuple[float, ...], ...]


Block = Heading | Paragraph | Figure | Table | Chart


@dataclass(frozen=True)
class Mention:
    """A sentence that refers to a figure; `letter` is empty where it means the whole figure."""

    figure: str
    letter: str
    sentence: str


@dataclass(frozen=True)
class Page:
    """One page: `index` counts from 1 in its file, `number` is the printed one."""

    index: int
    number: int
    running_header: str
    blocks: tuple[Block, ...]
    mentions: tuple[Mention, ...]


@dataclass(frozen=True)
class Book:
    """A planned book."""

    style: BookStyle
    pages: tuple[Page, ...]
