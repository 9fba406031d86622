"""Turns textbook pages into panel–caption pairs with in-line references.

Source: Patho-R1's curation of textbooks (layout, figure–caption matching, OCR, panel splitting, in-line
references), with permissively licensed models in place of the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from components.data_processing.textbook_pairs.inline_references import ask_for_mentions, with_references
from components.data_processing.textbook_pairs.pages.listing import book_files
from components.data_processing.textbook_pairs.pages.page import BadFile, Page, list_pages
from components.data_processing.textbook_pairs.pairs import write_pairs
from components.data_processing.textbook_pairs.parts import pack, page_runs, unpack
from components.data_processing.textbook_pairs.pool import PagePool, PageStore
from components.data_processing.textbook_pairs.reading import draw_pictures, read_pages, window
from components.data_processing.textbook_pairs.review import reports
from pathoflow.errors import InputError

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from pathoflow.contract.output import StageOutput
    from pathoflow.contract.sharding import Shard


def run(
    config: TextbookPairsConfig, *, teaching_atlas: Path | None = None, parts: Sequence[Path] = (), out: StageOutput
) -> None:
    """Reads every page of the books and writes pairs, reports of what was found and rejected, and plots.

    Pairs lie in `pairs/*.parquet` (schema PAIRS); the reports are `figures.jsonl`, `rejected.jsonl`, `pages.jsonl`
    and `contact_sheet.html` for reviewers.

    Args:
        config: The stage's configuration.
        teaching_atlas: The sealed atlas; its `books/` are read if the configuration says so.
        parts: Output of shards that read the same books; pages that are not in them are read here.
        out: Where pairs, counts and metrics go.

    Raises:
        InputError: There is nothing to read.
    """
    pages, bad_files = list_pages(_list_files(config, teaching_atlas))
    _count_files(pages, bad_files, out)
    store = PageStore(out.scratch / "pages")
    unpack(parts, store.directory)
    with PagePool(store, config) as pool, ThreadPoolExecutor(1) as background:
        read = read_pages(pages, range(len(pages)), pool, out)
        # The workers draw and end while the pairs are written here.
        drawing = background.submit(draw_pictures, reports.choose_pages(read, config.contact_pages), pool)
        mentions = ask_for_mentions(read, read, store, config, out)
        read = with_references(read, mentions, config.neighbour_pages)
        out.metric("num_pages", len(pages))
        write_pairs(read, store, out)
        reports.write_rejected(read, out)
        reports.write_pages(read, out)
        reports.write_figures(read, out)
        reports.draw_pages(read, config, out)
        reports.write_contact_sheet(read, drawing.result(), out)


def run_shard(
    config: TextbookPairsConfig, *, teaching_atlas: Path | None = None, shard: Shard, out: StageOutput
) -> None:
    """Reads one shard's share of the pages and writes their records and crops as `pages-*.zip`.

    Neighbours of figures that are another shard's pages are left to the run that merges the shards.

    Args:
        config: The stage's configuration.
        teaching_atlas: The sealed atlas; its `books/` are read if the configuration says so.
        shard: Whose runs of pages, and whose files without pages, are this task's.
        out: Where the records and counts go.

    Raises:
        InputError: There is nothing to read.
    """
    pages, bad_files = list_pages(_list_files(config, teaching_atlas))
    own = [at for number, part in enumerate(page_runs(pages)) if shard.owns(number) for at in part]
    own_bad_files = [bad for number, bad in enumerate(bad_files) if shard.owns(number)]
    _count_files([pages[at] for at in own], own_bad_files, out)
    store = PageStore(out.scratch / "pages")
    with PagePool(store, config) as pool:
        read = read_pages(pages, own, pool, out)
    complete = [page for page in read if set(window(pages, page.position, config.neighbour_pages)) <= set(own)]
    ask_for_mentions(complete, read, store, config, out)
    pack(store.directory, out.path)
    out.num_out = len(read)


def _list_files(config: TextbookPairsConfig, teaching_atlas: Path | None) -> dict[Path, str]:
    """Returns the files to read, each with the name by which its user knows it, wherever the atlas lies."""
    files = {path: str(path) for path in book_files(config.books)}
    if teaching_atlas is not None and config.use_atlas:
        for path in book_files([teaching_atlas / "books"]):
            files[path] = f"teaching_atlas/{path.relative_to(teaching_atlas)}"
    if not files:
        raise InputError(
            "There are no pages to read. Name some in textbook_pairs.books (`pathoflow run --books`), or set "
            "textbook_pairs.use_atlas."
        )
    return files


def _count_files(pages: Sequence[Page], bad_files: Sequence[BadFile], out: StageOutput) -> None:
    """Sets files without pages aside; each counts as one page."""
    out.num_in += len(pages) + len(bad_files)
    for label, error in bad_files:
        out.quarantine(label, error.reason, error.detail)
