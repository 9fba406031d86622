"""Renders a contact sheet for reviewers: figures found, regions rejected and why, in one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, TypeVar

from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.review.plots import render_as_scanned
from pathoflow.data.image_io import encode_jpeg

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.boxes import Box
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from components.data_processing.textbook_pairs.records import Figure, PageRecord, ReadPage

T = TypeVar("T")

_JPEG_QUALITY = 70
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fafafa }
section { display: flex; gap: 1.5em; margin: 0 0 2em; padding: 1em; background: #fff; border: 1px solid #ddd }
.page { flex: 0 0 46%; position: relative } .page img { width: 100%; display: block }
.page svg { position: absolute; inset: 0; width: 100%; height: 100% }
rect { fill: none; stroke-width: 3 } line { stroke-width: 2; stroke: #1a7f37 }
rect.panel { stroke: #d1242f } rect.caption { stroke: #1a7f37 }
rect.rejected { stroke: #d97706; stroke-dasharray: 8 5 }
text { font-size: 20px; font-weight: 700; paint-order: stroke; stroke: #fff; stroke-width: 4px }
text.panel { fill: #d1242f } text.caption { fill: #1a7f37 } text.rejected { fill: #b45309 }
table { border-collapse: collapse; width: 100%; margin: .3em 0 1em } h2, h3 { margin: 0 0 .3em }
td, th { border-top: 1px solid #ddd; padding: .3em .5em; text-align: left; vertical-align: top }
th { white-space: nowrap }
.note { color: #b45309 } .facts { flex: 1; min-width: 0; overflow-wrap: anywhere } ul { margin: 0; padding-left: 1.2em }
"""


def sample_evenly(pages: Sequence[T], most: int) -> list[T]:
    """Chooses at most `most` of the pages, spread evenly over all of them.

    >>> sample_evenly([3, 4, 5, 6, 7, 8], 3), sample_evenly([3, 4], 3), sample_evenly([3, 4], 0)
    ([3, 5, 7], [3, 4], [])
    """
    if len(pages) <= most:
        return list(pages)
    return [pages[number * len(pages) // most] for number in range(most)]


def contact_sheet(pages: Sequence[tuple[ReadPage, bytes]], num_all: int) -> str:
    """Renders a contact sheet as HTML; pictures are part of it, so that the file can be passed on.

    Args:
        pages: The pages to show, each with its picture as `page_picture` draws it.
        num_all: How many pages have figures or rejected regions, of which these are a part.
    """
    shown = "\n".join(_section(page, picture) for page, picture in pages)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>textbook_pairs: contact sheet</title>'
        f"<style>{_STYLE}</style></head><body><h1>textbook_pairs</h1>"
        f"<p>{len(pages)} of {num_all} pages with figures or rejected regions. "
        "Red: panels. Green: captions. Orange: rejected, with the reason.</p>\n"
        f"{shown}\n</body></html>\n"
    )


def page_picture(page: Page, config: TextbookPairsConfig) -> bytes:
    """Renders a page as scanned, as wide as reviewers see it, as a JPEG.

    Raises:
        UnreadableImage: The page cannot be read.
    """
    image = render_as_scanned(page, config)
    image.thumbnail((config.contact_width_px, 4 * config.contact_width_px))
    return encode_jpeg(image, _JPEG_QUALITY)


def _section(page: ReadPage, picture: bytes) -> str:
    source = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
    figures = "".join(_figure_table(figure, refs) for figure, refs in zip(page.figures, page.references, strict=True))
    rejected = "".join(f"<li>{escape(region.reason)}</li>" for region in page.record.rejected)
    rejected = f"<h3>Rejected</h3><ul>{rejected}</ul>" if rejected else ""
    return (
        f'<section><div class="page"><img alt="" src="{source}">{_overlay(page.record)}</div>'
        f'<div class="facts"><h2>{escape(page.page.item)}</h2>{figures}{rejected}</div></section>'
    )


def _figure_table(figure: Figure, references: Sequence[Sequence[str]]) -> str:
    """Renders a figure's pairs as a table, with notes on how they were found."""
    notes = [
        figure.kept_whole and f"kept whole: {figure.kept_whole}",
        figure.labels_from == "order" and "labels unreadable: assigned by reading order",
        figure.labels_from == "places" and "panels told apart by their place",
        figure.overleaf and "caption on the next page",
    ]
    noted = "".join(f'<p class="note">{escape(note)}</p>' for note in notes if note)
    rows = "".join(
        f"<tr><th>{escape(panel.label or 'whole')}</th><td>{escape(panel.caption)}</td>"
        f"<td><ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul></td></tr>"
        for panel, sentences in zip(figure.panels, references, strict=True)
    )
    number = escape(figure.number or "without number")
    head = "<tr><th>panel</th><th>caption</th><th>in-line references</th></tr>"
    return f"<h3>Figure {number}</h3>{noted}<table>{head}{rows}</table>"


def _overlay(record: PageRecord) -> str:
    shapes = [_outline(region.box, "rejected", region.reason) for region in record.rejected]
    for figure in record.figures:
        if not figure.overleaf:
            shapes.append(_outline(figure.caption_box, "caption", figure.number))
        for panel in figure.panels:
            if not figure.overleaf:
                (x1, y1), (x2, y2) = figure.caption_box.centre, panel.box.centre
                shapes.append(f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}"/>')
            shapes.append(_outline(panel.box, "panel", panel.label))
    return f'<svg viewBox="0 0 {record.width} {record.height}">{"".join(shapes)}</svg>'


def _outline(box: Box, kind: str, text: str) -> str:
    rectangle = f'x="{box.x0:.0f}" y="{box.y0:.0f}" width="{box.width:.0f}" height="{box.height:.0f}"'
    label = f'<text class="{kind}" x="{box.x0 + 6:.0f}" y="{box.y0 + 22:.0f}">{escape(text)}</text>' if text else ""
    return f'<rect class="{kind}" {rectangle}/>{label}'
