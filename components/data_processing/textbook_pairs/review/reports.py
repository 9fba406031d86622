"""Writes reports of a run: why regions were rejected, how every page and figure was read, and pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from components.data_processing.textbook_pairs.pool import key_of
from components.data_processing.textbook_pairs.review.contact_sheet import contact_sheet, sample_evenly
from components.data_processing.textbook_pairs.review.plots import draw_page
from pathoflow.system.files import write_atomically

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from components.data_processing.textbook_pairs.records import ReadPage
    from pathoflow.contract.output import StageOutput


def write_rejected(pages: Sequence[ReadPage], out: StageOutput) -> None:
    """Writes `rejected.jsonl`, every region that is no figure with its reason, and counts the reasons."""
    lines = []
    count: Counter[str] = Counter()
    for page in pages:
        for region in page.record.rejected:
            lines.append(
                {
                    "page": page.name,
                    "box": [round(side, 1) for side in region.box],
                    "page_width": page.record.width,
                    "page_height": page.record.height,
                    "reason": region.reason,
                }
            )
            count[region.reason] += 1
    _write_lines(out, "rejected.jsonl", lines)
    for reason, number in sorted(count.items()):
        out.metric(f"num_rejected_{reason}", number)


def write_figures(pages: Sequence[ReadPage], out: StageOutput) -> None:
    """Writes `figures.jsonl`: how the panels of every figure got their captions, or why it was kept whole."""
    found = [(page, figure) for page in pages for figure in page.figures]
    lines = [
        {
            "page": page.name,
            "number": figure.number,
            "panels": [panel.label for panel in figure.panels],
            "labels_from": figure.labels_from,
            "kept_whole": figure.kept_whole,
            "overleaf": figure.overleaf,
        }
        for page, figure in found
    ]
    _write_lines(out, "figures.jsonl", lines)
    out.metric("num_figures_by_reading_order", sum(figure.labels_from == "order" for _, figure in found))


def write_pages(pages: Sequence[ReadPage], out: StageOutput) -> None:
    """Writes `pages.jsonl`: how crooked every page was, and where its text comes from."""
    lines = [
        {
            "page": page.name,
            "skew_degrees": page.record.seen.skew_degrees,
            "text": page.text.text_source.kind,
            "text_layer_refused": page.text.text_source.refused,
        }
        for page in pages
    ]
    _write_lines(out, "pages.jsonl", lines)
    for kind in ("layer", "ocr"):
        out.metric(f"num_pages_text_{kind}", sum(line["text"] == kind for line in lines))


def _write_lines(out: StageOutput, name: str, lines: Sequence[Mapping[str, object]]) -> None:
    write_atomically(out.path / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def choose_pages(pages: Sequence[ReadPage], most: int) -> list[ReadPage]:
    """Chooses at most so many pages with figures or rejected regions for `contact_sheet.html`."""
    return sample_evenly(_reviewable(pages), most)


def write_contact_sheet(pages: Sequence[ReadPage], pictures: Mapping[int, bytes], out: StageOutput) -> None:
    """Writes `contact_sheet.html`, which shows reviewers the pages of which there are pictures, by position."""
    shown = [(page, pictures[page.position]) for page in pages if page.position in pictures]
    write_atomically(out.path / "contact_sheet.html", contact_sheet(shown, len(_reviewable(pages))))


def _reviewable(pages: Sequence[ReadPage]) -> list[ReadPage]:
    return [page for page in pages if page.figures or page.record.rejected]


def draw_pages(pages: Sequence[ReadPage], config: TextbookPairsConfig, out: StageOutput) -> None:
    """Draws the first pages with figures as `plots/<page>.jpg`."""
    for page in [page for page in pages if page.figures][: config.num_plots]:
        plot = out.path / "plots" / f"{key_of(page.position)}-{page.page.name[:60]}.jpg"
        plot.parent.mkdir(exist_ok=True)
        write_atomically(plot, draw_page(page.page, page.record, config))
