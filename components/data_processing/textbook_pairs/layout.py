"""Regions of a page: text, titles, figures, captions, tables, headers and footers; and what can find them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from components.data_processing.textbook_pairs.boxes import Box

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from components.data_processing.textbook_pairs.pages import Pixels


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
        """The regions of a page, the most certain first.

        Raises:
            UnreadableImage: The model has no answer for this page.
        """
        ...


def layout_model(config: TextbookPairsConfig) -> LayoutModel:
    """The layout model that a configuration names, loaded for one thread.

    Raises:
        InputError: Its file is missing or no such model.
        ConfigError: What it needs from the environment is not there.
    """
    if config.layout == "doclayout_yolo":
        from components.data_processing.textbook_pairs.layout_yolo import YoloLayout

        assert config.layout_model is not None, "the configuration checks this"
        return YoloLayout(config.layout_model, config.layout_confidence)
    if config.layout == "endpoint":
        from components.data_processing.textbook_pairs.layout_endpoint import EndpointLayout

        assert config.layout_endpoint is not None, "the configuration checks this"
        return EndpointLayout(config.layout_endpoint)
    from components.data_processing.textbook_pairs.layout_cdla import CdlaLayout

    return CdlaLayout(config.layout_confidence)


def most_certain_first(regions: list[Region]) -> list[Region]:
    """The regions in an order that does not depend on how a model lists them."""
    return sorted(regions, key=lambda region: (-region.confidence, region.box, region.kind))
