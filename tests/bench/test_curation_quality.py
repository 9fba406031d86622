from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import curation_quality
from bench.books.library import TruePage, write_book


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[TruePage]:
    return write_book(tmp_path_factory.mktemp("books") / "book", 101, "skew")


def rows_of(pages: list[TruePage]) -> list[dict[str, Any]]:
    """What a stage without fault would write."""
    rows = []
    for page in pages:
        for number, pair in enumerate(page.pairs):
            corners = dict(zip(("x0", "y0", "x1", "y1"), (1000 * side for side in pair.box), strict=True))
            rows.append(
                {
                    "source_id": f"{page.file.stem}/p1/1/{number}",
                    "region": {**corners, "page_width": 1000, "page_height": 1000},
                    "caption": pair.caption,
                    "inline_refs": list(pair.references),
                }
            )
    return rows


def measured(
    pages: list[TruePage], rows: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> curation_quality.Score:
    monkeypatch.setattr(curation_quality, "read_rows", lambda _: rows)
    (folder / "rejected.jsonl").write_text(
        json.dumps({"page": "x/p1", "box": [0, 0, 1, 1], "reason": "logo", "page_width": 9, "page_height": 9})
    )
    return curation_quality.score(pages, folder).by_degradation["skew"]


def test_the_same_seed_sets_the_same_book(pages: list[TruePage], tmp_path: Path) -> None:
    again = write_book(tmp_path / "book", 101, "skew")
    assert [page.pairs for page in again] == [page.pairs for page in pages]
    assert [page.file.read_bytes() for page in again] == [page.file.read_bytes() for page in pages]


def test_the_truth_scores_one_and_every_fault_counts(
    pages: list[TruePage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perfect = measured(pages, rows_of(pages), tmp_path, monkeypatch)
    assert perfect.true > 5
    assert (perfect.f1, perfect.reference_recall, perfect.reference_precision) == (1.0, 1.0, 1.0)
    for fault in (
        {"caption": "Something else"},
        {"region": {"x0": 0, "y0": 0, "x1": 9, "y1": 9, "page_width": 10, "page_height": 10}},
    ):
        rows = [row | fault for row in rows_of(pages)]
        assert measured(pages, rows, tmp_path, monkeypatch).found == 0
    rows = [
        row | {"inline_refs": [*row["inline_refs"], "A sentence that refers to nothing."]} for row in rows_of(pages)
    ]
    assert measured(pages, rows, tmp_path, monkeypatch).reference_precision < 1
    doubled = rows_of(pages) * 2
    assert measured(pages, doubled, tmp_path, monkeypatch).f1 < 0.7
