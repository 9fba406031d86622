"""Draws pages with their figures, captions and rejected regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.pages.rendering import render
from pathoflow.data.image_io import encode_jpeg

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.boxes import Box
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from components.data_processing.textbook_pairs.records import PageRecord

_PANEL, _CAPTION, _REJECTED = "red", "green", "darkorange"


def render_as_scanned(page: Page, config: TextbookPairsConfig) -> Image.Image:
    """Renders a page at the size at which boxes are given, without deskewing.

    Raises:
        UnreadableImage: The page cannot be read.
    """
    rendering = render(
        page,
        layout_pixels=config.layout_pixels,
        crop_scale=1,
        max_source_pixels=config.max_source_pixels,
        skew_degrees=0.0,
    )
    return Image.fromarray(rendering.coarse)


def draw_page(page: Page, record: PageRecord, config: TextbookPairsConfig) -> bytes:
    """Draws panels in red, captions in green with a line to each panel, and rejected regions in orange, as JPEG."""
    image = render_as_scanned(page, config)
    draw = ImageDraw.Draw(image)
    for region in record.rejected:
        _outline(draw, region.box, _REJECTED, region.reason)
    for figure in record.figures:
        _outline(draw, figure.caption_box, _CAPTION, figure.number)
        for panel in figure.panels:
            draw.line([figure.caption_box.centre, panel.box.centre], fill=_CAPTION, width=2)
            _outline(draw, panel.box, _PANEL, panel.label)
    return encode_jpeg(image, 80)


def _outline(draw: ImageDraw.ImageDraw, box: Box, colour: str, text: str) -> None:
    draw.rectangle(tuple(box), outline=colour, width=3)
    draw.text((box.x0 + 6, box.y0 + 4), text, fill=colour, font_size=22, stroke_width=2, stroke_fill="white")
