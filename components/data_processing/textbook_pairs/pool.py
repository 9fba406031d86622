"""Worker processes that read pages and leave one record per page on disk, where a restarted run finds it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeVar

from pydantic import ValidationError

from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.records import BadPage, Drawn, PageRecord, Record, picture_name
from components.data_processing.textbook_pairs.review.contact_sheet import page_picture
from pathoflow.data.image_io import UnreadableImage
from pathoflow.errors import PathoflowError, StageError
from pathoflow.system.files import write_atomically
from pathoflow.system.processes import die_with_parent

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.page_reader import PageReader

Kind = Literal["figures", "text", "mentions", "picture"]
R = TypeVar("R", bound=Record)

_JOBS_AHEAD = 4
# Asking for it anew costs a page about 10 ms.
_PAGES_PER_TRIM = 4


class Job(NamedTuple):
    """One thing to do with a page.

    Attributes:
        page: The page.
        kind: Read its figures with their text, or its text alone; ask a language model about them; or draw the page
            for reviewers.
        key: Names the page's files in the store: its place among all pages.
        overleaf: The next page of the book, which may hold the caption of this page's last figure.
    """

    page: Page
    kind: Kind
    key: str
    overleaf: Page | None = None


class PageStore:
    """Records of pages in a directory, by page and by what was read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def has(self, job: Job) -> bool:
        """Checks whether the job is done."""
        return self._path(job).exists()

    def save(self, job: Job, record: Record, crops: dict[str, bytes]) -> None:
        """Writes the crops, and last the record that makes them count."""
        for name, content in crops.items():
            write_atomically(self.directory / name, content)
        write_atomically(self._path(job), record.model_dump_json())

    def load(self, job: Job, kind: type[R]) -> R | BadPage:
        """Loads the record of a finished job, or why there is none."""
        content = self._path(job).read_bytes()
        try:
            return kind.model_validate_json(content)
        except ValidationError:
            return BadPage.model_validate_json(content)

    def crop(self, name: str) -> bytes:
        """Returns the encoded pixels of a panel."""
        return (self.directory / name).read_bytes()

    def _path(self, job: Job) -> Path:
        return self.directory / f"{job.key}.{job.kind}.json"


class PagePool:
    """Worker processes that read pages, started when there is a first one to read and kept for what follows.

    To be used as a context: its end ends the processes.

    Args:
        store: Where the workers leave the records.
        config: How pages are read.
    """

    def __init__(self, store: PageStore, config: TextbookPairsConfig) -> None:
        self.store = store
        self.config = config
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_begun(self) -> bool:
        """True once worker processes run; they start when there is a first page to read."""
        return self._executor is not None

    def close(self) -> None:
        """Stops the processes; safe to repeat."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def read(self, jobs: deque[Job]) -> Iterator[Job]:
        """Runs jobs from the left of a queue, and yields each once the store has its record.

        Whoever takes them may add to the queue meanwhile: no worker then waits for the last of one kind of job.

        Raises:
            StageError: A worker process died; the same command continues with what it left.
        """
        handed_out: dict[Future[None], Job] = {}
        try:
            while jobs or handed_out:
                # Few are handed out at a time, so that a long list costs no memory.
                while jobs and len(handed_out) < _JOBS_AHEAD * self.config.num_workers:
                    job = jobs.popleft()
                    if self.store.has(job):
                        yield job
                    else:
                        handed_out[self._start().submit(_run_job, job)] = job
                for future in wait(handed_out, return_when=FIRST_COMPLETED).done:
                    job = handed_out.pop(future)
                    future.result()
                    yield job
        except BrokenProcessPool as error:
            raise StageError(
                "A process that read pages died, most likely for want of memory. Lower textbook_pairs.num_workers "
                "or textbook_pairs.max_source_pixels and run the same command again: finished pages are kept."
            ) from error

    def _start(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                max_workers=self.config.num_workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self.config, self.store),
            )
        return self._executor


@dataclass
class _Worker:
    reader: PageReader
    store: PageStore
    num_pages: int = 0


_worker: _Worker | PathoflowError | None = None


def _start_worker(config: TextbookPairsConfig, store: PageStore) -> None:
    global _worker  # noqa: PLW0603  # the pool offers no other place for what its initializer makes
    die_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2

    from components.data_processing.textbook_pairs.page_reader import PageReader

    cv2.setNumThreads(1)
    try:
        _worker = _Worker(PageReader(config), store)
    except PathoflowError as error:
        # Raised here it would break the pool without a word of the reason.
        _worker = error


def _run_job(job: Job) -> None:
    assert _worker is not None
    if isinstance(_worker, PathoflowError):
        raise _worker
    reader, store = _worker.reader, _worker.store
    record: Record
    crops: dict[str, bytes] = {}
    try:
        if job.kind == "text":
            looked = store.load(job._replace(kind="figures"), PageRecord)
            assert isinstance(looked, PageRecord), "text is asked only of pages that could be read"
            record = reader.read_text(job.page, looked.seen)
        elif job.kind == "picture":
            record, crops = Drawn(), {picture_name(job.key): page_picture(job.page, reader.config)}
        else:
            record, crops = reader.read_figures(job.page, job.key, job.overleaf)
    except UnreadableImage as error:
        record = BadPage(reason=error.reason, detail=error.detail)
    except PathoflowError:
        # Nothing is wrong with the page: it is read when the same command runs again.
        raise
    except Exception as error:
        # One page that the libraries stumble over must not end a run over thousands.
        record = BadPage(reason="unexpected_error", detail=f"{type(error).__name__}: {error}")
    store.save(job, record, crops)
    _worker.num_pages += 1
    if _worker.num_pages % _PAGES_PER_TRIM == 0:
        _release_memory()


def _release_memory() -> None:
    """Returns freed memory to the system: for tensors of ever new sizes the allocator keeps ever more."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
