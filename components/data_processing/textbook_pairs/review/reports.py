"""Accounts of a run for reviewers: what was rejected and why, what became of every page and figure, and pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.pool import key_of
from components.data_processing.textbook_pairs.records import PageRecord, TextSource
from components.data_processing.textbook_pairs.review.contact_sheet import Reviewed, choose, contact_sheet
from components.data_processing.textbook_pairs.review.plots import draw_page
from pathoflow.system.files import write_atomically

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from pathoflow.contract.output import StageOutput


def write_rejected(pages: Sequence[Page], records: Sequence[PageRecord | None], out: StageOutput) -> None:
    """Lists every region that was looked at and is no figure, with its reason, and counts the reasons."""
    lines = []
    count: Counter[str] = Counter()
    for page, record in zip(pages, records, strict=True):
        for region in record.rejected if record else []:
            box = [round(side, 1) for side in region.box]
            size = {"page_width": record.width, "page_height": record.height} if record else {}
            line = {"page": f"{page.name}/p{page.number}", "box": box, **size, "reason": region.reason}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
            count[region.reason] += 1
    write_atomically(out.path / "rejected.jsonl", "".join(lines))
    for reason, number in sorted(count.items()):
        out.metric(f"num_rejected_{reason}", number)


def write_figures(pages: Sequence[Page], records: Sequence[PageRecord | None], out: StageOutput) -> None:
    """Lists every figure: how its panels got their captions, or why it was kept whole."""
    lines = []
    count: Counter[str] = Counter()
    for page, record in zip(pages, records, strict=True):
        for figure in record.figures if record else []:
            line = {
                "page": f"{page.name}/p{page.number}",
                "number": figure.number,
                "panels": [panel.label for panel in figure.panels],
                "labels_from": figure.labels_from,
                "kept_whole": figure.kept_whole,
                "overleaf": figure.overleaf,
            }
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
            count[figure.labels_from] += 1
    write_atomically(out.path / "figures.jsonl", "".join(lines))
    out.metric("num_figures_by_reading_order", count["order"])


def shown_pages(records: Sequence[PageRecord | None], most: int) -> list[int]:
    """The pages for `contact_sheet.html`: at most so many of those with figures or rejected regions."""
    return choose(_worth_a_look(records), most)


def write_contact_sheet(
    pages: Sequence[Page],
    records: Sequence[PageRecord | None],
    references: Mapping[int, list[list[list[str]]]],
    pictures: Mapping[int, bytes],
    out: StageOutput,
) -> None:
    """Writes `contact_sheet.html`, what reviewers look at: the pages of which there are pictures."""
    reviewed = [
        Reviewed(pages[at], record, picture, references.get(at, []))
        for at, picture in pictures.items()
        if (record := records[at]) is not None
    ]
    write_atomically(out.path / "contact_sheet.html", contact_sheet(reviewed, len(_worth_a_look(records))))


def _worth_a_look(records: Sequence[PageRecord | None]) -> list[int]:
    return [at for at, record in enumerate(records) if record and (record.figures or record.rejected)]


def write_pages(
    pages: Sequence[Page], records: Sequence[PageRecord | None], sources: Sequence[TextSource], out: StageOutput
) -> None:
    """Lists every page that was read: how crooked it was, and where its text comes from."""
    lines = []
    for page, record, source in zip(pages, records, sources, strict=True):
        if record is None:
            continue
        line = {
            "page": f"{page.name}/p{page.number}",
            "skew_degrees": record.seen.skew_degrees,
            "text": source.kind,
            "text_layer_refused": source.refused,
        }
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_atomically(out.path / "pages.jsonl", "".join(lines))
    for kind in ("layer", "ocr"):
        out.metric(f"num_pages_text_{kind}", sum(source.kind == kind for source in sources))


def draw_pages(
    pages: Sequence[Page], records: Sequence[PageRecord | None], config: TextbookPairsConfig, out: StageOutput
) -> None:
    """Draws the first pages with figures as `plots/<page>.jpg`."""
    found = [(at, record) for at, record in enumerate(records) if record is not None and record.figures]
    for at, record in found[: config.num_plots]:
        plot = out.path / "plots" / f"{key_of(at)}-{pages[at].name[:60]}.jpg"
        plot.parent.mkdir(exist_ok=True)
        write_atomically(plot, draw_page(pages[at], record, config))
