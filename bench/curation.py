"""Measures the overhead of `textbook_pairs` beside its models, its saving by reading fewer pages, and its memory.

A book of scans is read with the bundled models and two worker processes. The peer of the first figure is the time
spent inside of onnxruntime in the same run, as if both processes had done nothing else and had finished together.
The peer of the second is the same stage made to read the text of every page. What can be saved depends on where the
figures are, one page in five in both books: in one run, as plates are, or spread evenly, where three pages in five are
figure pages or neighbours of one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.memory import PeakMemory
from bench.report import Figure, conclude
from bench.scans import page_jpeg, write_scans

_NUM_WORKERS = 2
_LINES = 36
_ALL_PAGES = 5
"""With a figure within so many pages of every page, the text of every page is read."""
# The bar of the issue is 3 for a book one page in five of which has a figure. With one on every fifth page, three
# pages in five are such a page or its neighbour, whose text must be read: 5/3 is the most, and this bar is our own.
_EVEN_GOAL = 1.4


class _Sizes(NamedTuple):
    num_pages: int
    rounds: int
    few: int
    many: int
    sparse_lines: int


_FULL = _Sizes(num_pages=120, rounds=1, few=50, many=500, sparse_lines=6)
_QUICK = _Sizes(num_pages=5, rounds=1, few=4, many=12, sparse_lines=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few pages; the figures are rough")
    quick = parser.parse_args().quick
    sizes = _QUICK if quick else _FULL
    with tempfile.TemporaryDirectory() as folder:
        figures = [*_time(Path(folder), sizes), _memory(Path(folder), sizes)]
    conclude("Reading textbooks" + (" (quick)" if quick else ""), figures)


def _time(folder: Path, sizes: _Sizes) -> list[Figure]:
    """Measures overhead and saving on a book whose figures stand together, and on one with evenly spread figures."""
    num_figures = sizes.num_pages // 5
    first = (sizes.num_pages - num_figures) // 2
    together = _book(folder / "together.pdf", sizes.num_pages, range(first, first + num_figures), _LINES)
    evenly = _book(folder / "evenly.pdf", sizes.num_pages, range(2, sizes.num_pages, 5), _LINES)
    needed, spread, everything = [], [], []
    for _ in range(sizes.rounds):
        needed.append(_run(together, 1))
        spread.append(_run(evenly, 1))
        everything.append(_run(evenly, _ALL_PAGES))
    bare = "onnxruntime alone, same run"
    every = "text of every page read"
    return [
        Figure("stage: wall time", median(_wall_ratio(run) for run in spread), "x", bare, 1.15),
        Figure("stage: CPU time", median(run["cpu_s"] / run["inference_cpu_s"] for run in spread), "x", bare, 1.15),
        *(
            Figure(
                f"pages per minute, figures {where}: {_pages_per_minute(sizes, runs):.0f}",
                _seconds(everything) / _seconds(runs),
                "x",
                every,
                goal,
                higher_is_better=True,
            )
            for where, runs, goal in (("in one run", needed, 3.0), ("spread evenly, at most 1.67", spread, _EVEN_GOAL))
        ),
    ]


def _seconds(runs: list[dict[str, Any]]) -> float:
    return float(median(run["wall_s"] for run in runs))


def _pages_per_minute(sizes: _Sizes, runs: list[dict[str, Any]]) -> float:
    return 60 * sizes.num_pages / _seconds(runs)


def _wall_ratio(run: dict[str, Any]) -> float:
    return float(_NUM_WORKERS * run["wall_s"] / run["inference_s"])


def _memory(folder: Path, sizes: _Sizes) -> Figure:
    """Compares the peak memory of a long book with that of a short one, one page in ten with a figure.

    So both workers read figures at the same time in either book: with one figure in fifty pages, whether they ever do
    is chance, and decides the result.
    """
    peaks = []
    for number in (sizes.few, sizes.many):
        book = _book(folder / f"{number}.pdf", number, range(2, number, 10), sizes.sparse_lines)
        peaks.append(_run(book, 1)["peak_bytes"])
    return Figure(f"peak memory, {sizes.many} pages", peaks[1] / peaks[0], "x", f"{sizes.few} pages", 1.1)


def _run(book: Path, neighbour_pages: int) -> dict[str, Any]:
    """Runs the stage once in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(book), str(neighbour_pages), str(_NUM_WORKERS), folder]
        command = [sys.executable, "-m", "bench.curation_run", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = PeakMemory(process.pid)
        peak.start()
        printed, _ = process.communicate()
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed")
        result: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return result | {"peak_bytes": peak.peak_bytes}


def _book(path: Path, num_pages: int, with_figures: range, num_lines: int) -> Path:
    plain = [page_jpeg(seed, figure=False, num_lines=num_lines) for seed in range(10)]
    pages = (
        page_jpeg(100 + number, figure=True, num_lines=num_lines) if number in with_figures else jpeg
        for number, jpeg in enumerate(islice(cycle(plain), num_pages))
    )
    write_scans(path, pages)
    return path


if __name__ == "__main__":
    main()
