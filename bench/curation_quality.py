"""Scores `textbook_pairs` on generated books: pairs, in-line references and rejected distractors.

A pair is found if its box overlaps the true one with an IoU of at least 0.75 and its caption is at least 0.9 similar
(letters and figures only). The books come from seeds that were not looked at while the stage was written.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from bench.books.figures import Box
from bench.books.library import TruePage, TruePair, write_book
from bench.books.scanning import DEGRADATIONS
from bench.report import Figure, conclude
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.stage import run
from pathoflow.contract.output import StageOutput
from pathoflow.data.schemas import read_rows

MIN_IOU = 0.75
MIN_SIMILARITY = 0.9
_HELD_OUT_SEED = 170_000
_REASONS = {
    "qr code": {"qr_code"},
    "logo": {"logo", "decoration", "too_small", "no_caption", "line_art"},
    "ornament": {"decoration", "header_or_footer", "line_art", "too_small"},
    "table": {"table"},
    "line chart": {"chart"},
    "bar chart": {"chart"},
    "drawing": {"line_art"},
    "diagram": {"line_art"},
    "photograph": {"no_caption"},
}


@dataclass
class Score:
    """Counts of true, found and given pairs and references."""

    true: int = 0
    found: int = 0
    given: int = 0
    refs_true: int = 0
    refs_found: int = 0
    refs_given: int = 0
    refs_right: int = 0

    @property
    def recall(self) -> float:
        """Share of the true pairs that were found."""
        return self.found / max(self.true, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of the precision and recall of pairs."""
        return 2 * self.found / max(self.true + self.given, 1)

    @property
    def reference_recall(self) -> float:
        """Share of the true references of all true pairs that were found."""
        return self.refs_found / max(self.refs_true, 1)

    @property
    def reference_precision(self) -> float:
        """Share of the references of found pairs that are true."""
        return self.refs_right / max(self.refs_given, 1)


@dataclass
class Report:
    """Scores of a run."""

    by_degradation: dict[str, Score] = field(default_factory=lambda: defaultdict(Score))
    by_variation: dict[tuple[str, str], Score] = field(default_factory=lambda: defaultdict(Score))
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    pairs_on_empty_pages: int = 0
    empty_pages: int = 0
    failures: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two books")
    parser.add_argument("--books", type=int, default=54, help="how many books of six pages")
    parser.add_argument("--seed", type=int, default=_HELD_OUT_SEED)
    parser.add_argument("--keep", type=Path, help="a folder for the books, the stage's output and the failures")
    arguments = parser.parse_args()
    num_books = 2 if arguments.quick else arguments.books
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        pages = write_library(folder / "books", num_books, arguments.seed)
        config = TextbookPairsConfig(books=(folder / "books",), use_atlas=False, num_workers=2, max_quarantine_share=0)
        out = StageOutput(folder / "output", folder / "scratch")
        run(config, out=out)
        report = score(pages, folder / "output")
        if arguments.keep:
            (folder / "failures.txt").write_text("\n".join(report.failures) + "\n")
    show(report)
    conclude(f"Curation quality, {len(pages)} pages of {num_books} generated books", figures(report))


def write_library(folder: Path, num_books: int, seed: int) -> list[TruePage]:
    """Writes books, every second one clean and the others degraded in turn."""
    pages = []
    for number in range(num_books):
        degradation = "clean" if number % 2 == 0 else DEGRADATIONS[1 + number // 2 % (len(DEGRADATIONS) - 1)]
        pages += write_book(folder / f"book_{number:03d}", seed + number, degradation)
    return pages


def score(pages: Iterable[TruePage], output: Path) -> Report:
    """Compares what the stage wrote with what is true."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_rows(output / "pairs"):
        rows[row["source_id"].split("/")[0]].append(row)
    rejected: dict[str, list[tuple[Box, str]]] = defaultdict(list)
    sizes = {}
    for line in (output / "rejected.jsonl").read_text().splitlines():
        region = json.loads(line)
        name = region["page"].split("/")[0]
        rejected[name].append((region["box"], region["reason"]))
        sizes[name] = (region["page_width"], region["page_height"])
    report = Report()
    for page in pages:
        _score_page(page, rows[page.file.stem], report)
        for kind, box in page.distractors:
            width, height = sizes.get(page.file.stem, (1, 1))
            true = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
            best = max(((_iou(true, seen), reason) for seen, reason in rejected[page.file.stem]), default=(0.0, ""))
            report.rejected[kind, best[1] if best[0] > 0.1 else "not looked at"] += 1
    return report


def figures(report: Report) -> list[Figure]:
    """Returns the figures of the benchmark."""
    clean = report.by_degradation["clean"]
    degraded = _total(score for name, score in report.by_degradation.items() if name != "clean")
    every = _total(report.by_degradation.values())
    reasons = [
        (kind, reason, number) for (kind, reason), number in report.rejected.items() if reason != "not looked at"
    ]
    right = sum(number for kind, reason, number in reasons if reason in _REASONS[kind])
    bar = "a bar we set"
    return [
        Figure("pairs, clean pages: F1", clean.f1, "", bar, 0.95, higher_is_better=True),
        Figure("pairs, degraded pages: F1", degraded.f1, "", bar, 0.90, higher_is_better=True),
        Figure("in-line references: recall", every.reference_recall, "", bar, 0.90, higher_is_better=True),
        Figure("in-line references: precision", every.reference_precision, "", bar, 0.95, higher_is_better=True),
        Figure("pairs on pages without any", report.pairs_on_empty_pages, "pairs", f"{report.empty_pages} pages", 0),
        Figure(
            "distractors with the right reason",
            right / max(sum(n for *_, n in reasons), 1),
            "",
            "a bar we set",
            0.85,
            higher_is_better=True,
        ),
    ]


def show(report: Report) -> None:
    """Prints the tables: by degradation, by variation, and why distractors were rejected."""
    console = Console(width=120)
    table = Table("pages", "pairs", "F1", "recall", "references", "recall", "precision")
    for name in DEGRADATIONS:
        if name in report.by_degradation:
            table.add_row(*_cells(name, report.by_degradation[name]))
    console.print(table)
    table = Table("variation", "value", "pairs", "recall", "reference recall")
    for (variation, value), counted in sorted(report.by_variation.items()):
        recall = f"{counted.recall:.3f}" if counted.recall >= 0.95 else f"[bold red]{counted.recall:.3f}[/]"
        table.add_row(variation, value, str(counted.true), recall, f"{counted.reference_recall:.3f}")
    console.print(table)
    table = Table("distractor", "reason given", "number")
    for (kind, reason), number in sorted(report.rejected.items()):
        table.add_row(kind, reason, str(number))
    console.print(table)


def _cells(name: str, counted: Score) -> list[str]:
    shares = (counted.f1, counted.recall)
    references = (counted.reference_recall, counted.reference_precision)
    return [
        name,
        str(counted.true),
        *(f"{x:.3f}" for x in shares),
        str(counted.refs_true),
        *(f"{x:.3f}" for x in references),
    ]


def _score_page(page: TruePage, rows: list[dict[str, Any]], report: Report) -> None:
    matched = _assign(page.pairs, rows)
    page_score = Score(true=len(page.pairs), found=len(matched), given=len(rows))
    if not page.pairs:
        report.empty_pages += 1
        report.pairs_on_empty_pages += len(rows)
    for at, true in enumerate(page.pairs):
        row = rows[matched[at]] if at in matched else None
        counted = Score(true=1, found=int(row is not None), refs_true=len(true.references))
        if row is None:
            report.failures.append(_failure(page, true, rows))
        else:
            counted.refs_found = sum(any(similar(ref, seen) for seen in row["inline_refs"]) for ref in true.references)
            counted.refs_given = len(row["inline_refs"])
            allowed = (*true.references, *true.open_references)
            counted.refs_right = sum(_any_similar(seen, allowed) for seen in row["inline_refs"])
            if counted.refs_found < counted.refs_true or counted.refs_right < counted.refs_given:
                report.failures.append(
                    f"{page.file} REFERENCES {true.references} OPEN {true.open_references} GIVEN {row['inline_refs']}"
                )
        for key in {**page.variations, **true.variations, "scan": page.degradation}.items():
            _add(report.by_variation[key], counted)
        counted.true = counted.found = 0
        _add(page_score, counted)
    for number, row in enumerate(rows):
        if number not in matched.values():
            region = row["region"]
            box = [
                round(region[side] / region[f"page_{'width' if 'x' in side else 'height'}"], 3)
                for side in ("x0", "y0", "x1", "y1")
            ]
            report.failures.append(f"{page.file} WRONG {row['source_id']} {box} {row['caption']!r}")
    _add(report.by_degradation[page.degradation], page_score)


def _assign(pairs: tuple[TruePair, ...], rows: list[dict[str, Any]]) -> dict[int, int]:
    """Assigns each true pair the row that finds it, one for one."""
    if not pairs or not rows:
        return {}
    value = np.zeros((len(pairs), len(rows)))
    for at, true in enumerate(pairs):
        for number, row in enumerate(rows):
            overlap, alike = _iou(true.box, _shares(row["region"])), similarity(true.caption, row["caption"])
            if overlap >= MIN_IOU and alike >= MIN_SIMILARITY:
                value[at, number] = overlap + alike
    return {
        int(at): int(number) for at, number in zip(*linear_sum_assignment(-value), strict=True) if value[at, number] > 0
    }


def _failure(page: TruePage, true: TruePair, rows: list[dict[str, Any]]) -> str:
    best = max(((_iou(true.box, _shares(row["region"])), row) for row in rows), key=lambda pair: pair[0], default=None)
    seen = f"best IoU {best[0]:.2f} {best[1]['source_id']} {best[1]['caption']!r}" if best else "no pairs"
    box = [round(side, 3) for side in true.box]
    return f"{page.file} MISSED [{page.degradation}] {box} {true.caption!r} {true.variations} {seen}"


def _shares(region: dict[str, Any]) -> Box:
    width, height = region["page_width"], region["page_height"]
    return region["x0"] / width, region["y0"] / height, region["x1"] / width, region["y1"] / height


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def similarity(a: str, b: str) -> float:
    """Returns the similarity of two texts, 0..1, by their letters and digits.

    >>> similarity("Lipoma. (HE ×200)", "lipoma (HE, x200)") > 0.9, similarity("Lipoma", "Naevus") > 0.5
    (True, False)
    """
    return difflib.SequenceMatcher(None, _plain(a), _plain(b), autojunk=False).ratio()


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text).lower().replace("×", "x"))


def similar(a: str, b: str) -> bool:
    """Returns whether two sentences are the same but for errors of reading."""
    return similarity(a, b) >= MIN_SIMILARITY


def _any_similar(sentence: str, allowed: Iterable[str]) -> bool:
    """Returns whether a sentence is one of those allowed, or a part of one on the pages read."""
    return any(
        similar(sentence, other) or similarity(sentence, other[-len(sentence) :]) >= MIN_SIMILARITY for other in allowed
    )


def _total(scores: Iterable[Score]) -> Score:
    total = Score()
    for counted in scores:
        _add(total, counted)
    return total


def _add(total: Score, counted: Score) -> None:
    for name, value in vars(counted).items():
        setattr(total, name, getattr(total, name) + value)


if __name__ == "__main__":
    main()
