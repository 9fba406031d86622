"""Renders the teaching atlas: captioned public images, scanned-looking books, and the truth about both."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from components.data_processing.teaching_atlas.book_plans import plan_books
from components.data_processing.teaching_atlas.books import (
    ScannedPage,
    make_page,
    page_tasks,
    pair_truths,
    write_book,
)
from components.data_processing.teaching_atlas.config import TeachingAtlasConfig
from components.data_processing.teaching_atlas.overview import specimens_overview
from components.data_processing.teaching_atlas.public_images import (
    ARCHIVE_NAME,
    LOOKUP_NAME,
    image_tasks,
    make_image,
    write_archive,
    write_lookup,
)
from pathoflow.contract.output import StageOutput
from pathoflow.system.processes import die_with_parent

InOrder = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""A `map` whose results come in the order of its tasks."""


def run(config: TeachingAtlasConfig, *, out: StageOutput) -> None:
    """Writes `public/`, `books/`, `truth/` and an overview plot below the output.

    Every image and page draws from a generator seeded by its own place in the atlas, so the bytes depend on
    neither the number of workers nor the order in which they finish.
    """
    with _workers(config.num_workers) as in_order:
        images = _make_public(config, in_order, out)
        pairs = _make_books(config, in_order, out)
    write_lines(out.path / "truth" / "pairs.jsonl", pairs)
    write_lines(out.path / "truth" / "specimens.jsonl", [*images, *map(specimen_of_pair, pairs)])
    out.plot("specimens", specimens_overview(config.seed))
    out.num_in = out.num_out = len(images) + len(pairs)
    out.metric("num_images", len(images))
    out.metric("num_pages", config.num_book_pages + config.num_heldout_pages)
    out.metric("num_panels", len(pairs))


def _make_public(config: TeachingAtlasConfig, in_order: InOrder, out: StageOutput) -> list[dict[str, Any]]:
    """Writes the captioned images and their table; returns the truth about each."""
    folder = out.path / "public"
    folder.mkdir(parents=True)
    tasks = image_tasks(
        seed=config.seed,
        num_train=config.num_public_train,
        num_heldout=config.num_public_heldout,
        size_px=config.image_size_px,
        jpeg_quality=config.jpeg_quality,
    )
    truths: list[dict[str, Any]] = []

    def rendered() -> Iterator[tuple[str, bytes]]:
        for content, truth in in_order(make_image, tasks):
            truths.append(truth)
            out.progress(len(truths), len(tasks), "images")
            yield Path(truth["image"]).name, content

    write_archive(folder / ARCHIVE_NAME, rendered())
    write_lookup(folder / LOOKUP_NAME, truths)
    return truths


def _make_books(config: TeachingAtlasConfig, in_order: InOrder, out: StageOutput) -> list[dict[str, Any]]:
    """Writes the books; returns the truth about each panel."""
    books = plan_books(config.seed, config.num_book_pages, config.num_heldout_pages)
    tasks = page_tasks(books, seed=config.seed, width_px=config.page_width_px, jpeg_quality=config.jpeg_quality)
    pages: list[ScannedPage] = []
    for page in in_order(make_page, tasks):
        pages.append(page)
        out.progress(len(pages), len(tasks), "pages")
    pairs = []
    unbound = iter(pages)
    for book in books:
        bound = list(islice(unbound, len(book.pages)))
        write_book(out.path / "books", book.style, bound, jpeg_quality=config.jpeg_quality)
        pairs += pair_truths(book, bound)
    return pairs


@contextmanager
def _workers(num_workers: int) -> Iterator[InOrder]:
    """Yields a `map` that works in `num_workers` processes, or in this one if there is one."""
    if num_workers == 1:
        yield map
        return
    # spawn: the parent may already run threads (a tracking client's), which a fork would copy in mid-air.
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"), initializer=die_with_parent)
    try:
        yield lambda function, tasks: pool.map(function, tasks, chunksize=1 + len(tasks) // 200)
    finally:
        # A stop request must not wait for what is still queued.
        pool.shutdown(cancel_futures=True)


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def specimen_of_pair(pair: dict[str, Any]) -> dict[str, Any]:
    """Returns a panel's record in the list of all specimens."""
    return {
        "image": f"books/{pair['panel_id']}",
        "split": "heldout" if "heldout" in pair["book"] else "train",
        **{key: pair[key] for key in ("diagnosis", "subfield", "findings", "caption")},
    }
