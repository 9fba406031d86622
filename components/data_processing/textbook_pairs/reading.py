"""Reads pages in the workers of a pool: the figures of all, and the text of those that are near a figure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.pool import Job, PagePool, PageStore, key_of, picture_name
from components.data_processing.textbook_pairs.records import BadPage, Drawn, PageRecord, ReadPage, Text
from components.data_processing.textbook_pairs.review.contact_sheet import page_picture

if TYPE_CHECKING:
    from pathoflow.contract.output import StageOutput


def read_pages(pages: Sequence[Page], own: Iterable[int], pool: PagePool, out: StageOutput) -> list[ReadPage]:
    """Reads figures, and the text of pages near a page with figures as soon as that is known.

    Args:
        pages: All pages.
        own: Positions of those to read.
        pool: Reads them.
        out: Hears of progress; pages that cannot be read are set aside there, in the order of the pages.

    Returns:
        The pages that could be read, in order.
    """
    jobs = [Job(pages[at], "figures", key_of(at), _overleaf(pages, at)) for at in own]
    reading = _Reading(pages, pool.store, pool.config.neighbour_pages)
    queue = deque(jobs)
    count: Counter[str] = Counter()
    out.progress(0, len(jobs), "pages", reading="figures")
    for job in pool.read(queue):
        count[job.kind] += 1
        if job.kind == "figures":
            queue.extend(reading.take(job))
        if count["figures"] < len(jobs):
            out.progress(count["figures"], len(jobs), "pages", reading="figures")
        else:
            out.progress(count["text"], len(reading.text_jobs), "neighbour pages", reading="text")
    for at, bad in sorted(reading.bad.items()):
        out.quarantine(pages[at].item, bad.reason, bad.detail)
    return [reading.result(at) for at in sorted(reading.records)]


class _Reading:
    """Keeps track of what was read, and tells whose text is to be read next.

    Attributes:
        records: The record of each page whose figures are known, by position.
        bad: The pages that could not be read.
        text_jobs: The pages whose text is read for its own sake.
    """

    def __init__(self, pages: Sequence[Page], store: PageStore, reach: int) -> None:
        self.records: dict[int, PageRecord] = {}
        self.bad: dict[int, BadPage] = {}
        self.text_jobs: dict[int, Job] = {}
        self._pages = pages
        self._store = store
        self._reach = reach
        self._near_figures: set[int] = set()

    def take(self, job: Job) -> list[Job]:
        """Takes in a page whose figures were read, and returns the jobs for text that follow from them."""
        at = int(job.key)
        record = self._store.load(job, PageRecord)
        if isinstance(record, BadPage):
            self.bad[at] = record
            return []
        self.records[at] = record
        candidates = [at]
        if record.figures:
            candidates = window(self._pages, at, self._reach)
            self._near_figures.update(candidates)
        new = {
            other: Job(self._pages[other], "text", key_of(other))
            for other in candidates
            if other in self._near_figures
            and other not in self.text_jobs
            and (known := self.records.get(other)) is not None
            and known.paragraphs is None
        }
        self.text_jobs |= new
        return list(new.values())

    def result(self, at: int) -> ReadPage:
        """Returns a page with its figures, and with its text if that was read."""
        record = self.records[at]
        text = Text(paragraphs=record.paragraphs or [], text_source=record.text_source)
        if at in self.text_jobs:
            loaded = self._store.load(self.text_jobs[at], Text)
            if not isinstance(loaded, BadPage):
                text = loaded
        return ReadPage(self._pages[at], at, record, text)


def draw_pictures(pages: Sequence[ReadPage], pool: PagePool) -> dict[int, bytes]:
    """Draws pages for reviewers in the pool, which ends after that, or here if it was never started.

    Returns:
        The pictures as JPEG by position, of the pages that could be drawn.
    """
    if not pool.has_begun:
        return {page.position: page_picture(page.page, pool.config) for page in pages}
    jobs = {page.position: Job(page.page, "picture", key_of(page.position)) for page in pages}
    deque(pool.read(deque(jobs.values())), maxlen=0)
    pool.close()
    drawn = {at: job for at, job in jobs.items() if isinstance(pool.store.load(job, Drawn), Drawn)}
    return {at: pool.store.crop(picture_name(job.key)) for at, job in drawn.items()}


def window(pages: Sequence[Page], at: int, reach: int) -> list[int]:
    """Returns the positions of the pages of the same book that are at most `reach` pages away, in order."""
    return [
        other
        for other in range(max(at - reach, 0), min(at + reach + 1, len(pages)))
        if pages[other].book == pages[at].book
    ]


def _overleaf(pages: Sequence[Page], at: int) -> Page | None:
    """Returns the next page of the same book."""
    return pages[at + 1] if at + 1 < len(pages) and pages[at + 1].book == pages[at].book else None
