"""Regions of a page (text, titles, figures, captions, tables, headers, footers), as layout models find them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from components.data_processing.textbook_pairs.boxes import Box

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.pixels import Pixels


class Region(NamedTuple):
    """A region of a page.

    Attributes:
        kind: `text`, `title`, `figure`, `figure_caption`, `table`, `table_caption`, `header`, `footer`, `reference`
            or `equation`.
        box: Where it is.
        confidence: The model's confidence, 0..1.
    """

    kind: str
    box: Box
    confidence: float


class LayoutModel(Protocol):
    """Finds the regions of a page."""

    def find(self, page: Pixels) -> list[Region]:
        """Returns the regions of a page, the most certain first.

        Raises:
            UnreadableImage: The model has no answer for this page.
        """
        ...


def sort_by_confidence(regions: list[Region]) -> list[Region]:
    """Sorts regions by confidence, in an order that does not depend on how a model lists them."""
    return sorted(regions, key=lambda region: (-region.confidence, region.box, region.kind))
