"""Worker processes that read pages and leave one record per page on disk, where a restarted run finds it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from pydantic import ValidationError

from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.pages import Page
from components.data_processing.textbook_pairs.records import BadPage, Record, Text
from pathoflow.errors import StageError
from pathoflow.files import write_atomically
from pathoflow.images import UnreadableImage
from pathoflow.processes import die_with_parent

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.curation import PageReader

Kind = Literal["figures", "text"]
R = TypeVar("R", bound=Record)


class Job(NamedTuple):
    """What to read of a page: its figures with their text, or its text alone.

    Attributes:
        page: The page.
        kind: What to read.
        key: Names the page's files in the store: its place among all pages.
    """

    page: Page
    kind: Kind
    key: str


class PageStore:
    """Records of pages in a directory, by page and by what was read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def has(self, job: Job) -> bool:
        """Whether the job is done."""
        return self._path(job).exists()

    def save(self, job: Job, record: Record, crops: dict[str, bytes]) -> None:
        """Writes the crops, and last the record that makes them count."""
        for name, content in crops.items():
            write_atomically(self.directory / name, content)
        write_atomically(self._path(job), record.model_dump_json())

    def load(self, job: Job, kind: type[R]) -> R | BadPage:
        """The record of a finished job, or why there is none."""
        content = self._path(job).read_bytes()
        try:
            return kind.model_validate_json(content)
        except ValidationError:
            return BadPage.model_validate_json(content)

    def crop(self, name: str) -> bytes:
        """The encoded pixels of a panel."""
        return (self.directory / name).read_bytes()

    def _path(self, job: Job) -> Path:
        return self.directory / f"{job.key}.{job.kind}.json"


def run_jobs(
    jobs: Sequence[Job], store: PageStore, config: TextbookPairsConfig, on_done: Callable[[int], None]
) -> None:
    """Does the jobs that the store has no record of; `on_done` hears how many are finished.

    Raises:
        StageError: A worker process died; the same command continues with what it left.
    """
    waiting = [job for job in jobs if not store.has(job)]
    on_done(len(jobs) - len(waiting))
    if not waiting:
        return
    pool = ProcessPoolExecutor(
        max_workers=min(config.num_workers, len(waiting)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(config, store),
    )
    try:
        futures = {pool.submit(_do, job): job for job in waiting}
        for number, future in enumerate(as_completed(futures), start=len(jobs) - len(waiting) + 1):
            future.result()
            on_done(number)
    except BrokenProcessPool as error:
        raise StageError(
            "A process that read pages died, most likely for want of memory. Lower textbook_pairs.num_workers "
            "or textbook_pairs.max_source_pixels and run the same command again: finished pages are kept."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Worker(NamedTuple):
    reader: PageReader
    store: PageStore


_worker: _Worker | None = None


def _start_worker(config: TextbookPairsConfig, store: PageStore) -> None:
    global _worker  # noqa: PLW0603  # the pool offers no other place for what its initializer makes
    die_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2

    from components.data_processing.textbook_pairs.curation import PageReader

    cv2.setNumThreads(1)
    _worker = _Worker(PageReader(config), store)


def _do(job: Job) -> None:
    assert _worker is not None
    reader, store = _worker
    record: Record
    crops: dict[str, bytes] = {}
    try:
        if job.kind == "text":
            record = Text(paragraphs=reader.read_text(job.page))
        else:
            record, crops = reader.read_figures(job.page, job.key)
    except UnreadableImage as error:
        record = BadPage(reason=error.reason, detail=error.detail)
    except Exception as error:
        # One page that the libraries stumble over must not end a run over thousands.
        record = BadPage(reason="unexpected_error", detail=f"{type(error).__name__}: {error}")
    store.save(job, record, crops)
