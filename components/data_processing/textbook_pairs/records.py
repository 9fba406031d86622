"""Records of pages that were read; kept on disk so that a killed run does not read them again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.figures.cutting import LabelSource
from components.data_processing.textbook_pairs.figures.pictures import Picture
from components.data_processing.textbook_pairs.layout.regions import Region

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.pages.page import Page


class Record(BaseModel):
    """Base of the records: frozen, as JSON on disk."""

    model_config = ConfigDict(frozen=True)


class Panel(Record):
    """One panel that becomes a pair.

    Attributes:
        label: Its label in capitals, or `WHOLE`.
        box: Where it is on the page as it came, in coarse pixels.
        caption: The figure's title and the panel's part of the caption.
        crop: Name of the file that holds its pixels, beside the page's record.
    """

    label: str
    box: Box
    caption: str
    crop: str


class Figure(Record):
    """A figure with its caption.

    Attributes:
        number: Its number as printed; empty for a caption without one.
        caption_box: Where the caption is on the page, in coarse pixels.
        panels: Its panels in reading order.
        kept_whole: Why a figure of several panels was not cut; empty otherwise.
        labels_from: How the panels came to their parts of the caption; empty where it has none.
        overleaf: Whether the caption stands on the next page.
    """

    number: str
    caption_box: Box
    panels: list[Panel]
    kept_whole: str = ""
    labels_from: LabelSource = ""
    overleaf: bool = False


class Rejected(Record):
    """A region that is no figure, and why."""

    box: Box
    reason: str


class Seen(Record):
    """The result of a page's layout analysis before any text was read, kept for a second look.

    Attributes:
        regions: The layout model's regions; None if it was not asked, since nothing there may be a picture.
        pictures: Boxes that may be figures, and those that were rejected.
        skew_degrees: How far the page was turned counter-clockwise to stand upright.
        is_clean: Whether the page has neither shadows nor dust.
    """

    regions: list[Region] | None
    pictures: list[Picture]
    skew_degrees: float
    is_clean: bool = False


class TextSource(Record):
    """The source of a page's text.

    Attributes:
        kind: `layer` for the text that a PDF carries, `ocr`, or empty where no text was read.
        refused: Why the text that a PDF carries was not used; empty where it was, or where there is none to use.
    """

    kind: Literal["", "layer", "ocr"] = ""
    refused: str = ""


class PageRecord(Record):
    """The figures of one page, and its text if that was read with them.

    Attributes:
        width: Width of the rendered page in pixels.
        height: Height of the rendered page in pixels.
        figures: Its figures.
        rejected: Regions that were looked at and are no figures.
        paragraphs: Its body text, or None where it was not read.
        seen: The layout analysis in which the figures were searched.
        text_source: Where the text that was read comes from.
    """

    width: int
    height: int
    figures: list[Figure] = []
    rejected: list[Rejected] = []
    paragraphs: list[str] | None = None
    seen: Seen
    text_source: TextSource = TextSource()


class Text(Record):
    """The body text of a page that was read for it alone."""

    paragraphs: list[str]
    text_source: TextSource


@dataclass(frozen=True)
class ReadPage:
    """A page with everything that was read of it.

    Attributes:
        page: Where it is found.
        position: Its place among all pages of the run, from 0.
        record: Its size, its figures, and the regions that are none.
        text: Its body text; empty where no figure is near.
        references: The in-line references of every panel, figure by figure; empty until they are looked for.
    """

    page: Page
    position: int
    record: PageRecord
    text: Text
    references: list[list[list[str]]] = field(default_factory=list)

    @property
    def figures(self) -> list[Figure]:
        """Its figures."""
        return self.record.figures

    @property
    def name(self) -> str:
        """The name of the page in pairs and reports."""
        return f"{self.page.name}/p{self.page.number}"


class UnnumberedMention(Record):
    """A sentence that refers to a figure without its number.

    Attributes:
        figure: The figure's place among those of its page.
        panel: The label of the panel that is meant; empty for the whole figure.
        sentence: The sentence.
    """

    figure: int
    panel: str
    sentence: str


class Mentions(Record):
    """The answer of a language model about the figures of one page."""

    found: list[UnnumberedMention]


class Drawn(Record):
    """Marks that a page's picture for reviewers is drawn."""


class BadPage(Record):
    """A page that could not be read, or whose unnumbered mentions could not be found, with the reason."""

    reason: str
    detail: str


def key_of(at: int) -> str:
    """Returns the name of a page's files, from its position among all pages."""
    return f"{at:06d}"


def picture_name(key: str) -> str:
    """Returns the file name of a page's picture for reviewers."""
    return f"{key}-page.jpg"
