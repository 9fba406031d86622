"""Turns textbook pages into panel–caption pairs with in-line references.

Source: Patho-R1's curation of textbooks (layout, figure–caption matching, OCR, panel splitting, in-line
references), with permissively licensed models in place of the paper's.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.data_processing.textbook_pairs.accounts import (
    draw_pages,
    shown_pages,
    write_contact_sheet,
    write_figures,
    write_pages,
    write_rejected,
)
from components.data_processing.textbook_pairs.contact_sheet import page_picture
from components.data_processing.textbook_pairs.listing import (
    PAGE_SUFFIXES,
    PDF_SUFFIX,
    book_files,
    find_copies,
    unique_names,
)
from components.data_processing.textbook_pairs.pages import Page, count_pages
from components.data_processing.textbook_pairs.parts import pack, stretches, unpack
from components.data_processing.textbook_pairs.pool import Job, PagePool, PageStore, key_of, picture_of
from components.data_processing.textbook_pairs.records import (
    WHOLE,
    BadPage,
    Drawn,
    Figure,
    Mentions,
    PageRecord,
    Panel,
    Text,
    TextSource,
    UnnumberedMention,
)
from components.data_processing.textbook_pairs.references import references_to
from components.data_processing.textbook_pairs.text import sentences_across
from components.data_processing.textbook_pairs.unnumbered import find_mentions
from pathoflow.data.images import UnreadableImage, decode, image_columns, language_of
from pathoflow.data.schemas import PAIRS, ShardWriter
from pathoflow.errors import InputError

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.config import TextbookPairsConfig
    from pathoflow.contract.output import StageOutput
    from pathoflow.contract.sharding import Shard


def run(
    config: TextbookPairsConfig, *, teaching_atlas: Path | None = None, parts: Sequence[Path] = (), out: StageOutput
) -> None:
    """Reads every page of the books and writes pairs, accounts of what was found and rejected, and plots.

    Pairs lie in `pairs/*.parquet` (schema PAIRS); the accounts are `figures.jsonl`, `rejected.jsonl`, `pages.jsonl`
    and `contact_sheet.html` for reviewers.

    Args:
        config: What to read and how.
        teaching_atlas: The sealed atlas; its `books/` are read if the configuration says so.
        parts: What shards read of the same books; pages that are not in them are read here.
        out: Where pairs, counts and metrics go.

    Raises:
        InputError: There is nothing to read.
    """
    pages, bad_files = _list_pages(_list_files(config, teaching_atlas))
    _count_files(pages, bad_files, out)
    store = PageStore(out.scratch / "pages")
    unpack(parts, store.directory)
    with PagePool(store, config) as pool, ThreadPoolExecutor(1) as background:
        reading = _Reading(pages, range(len(pages)), pool, out)
        records = reading.records
        # The workers draw and end while the pairs are written here.
        drawing = background.submit(_draw_pictures, pages, shown_pages(records, config.contact_pages), pool)
        sentences = _Sentences(pages, reading.texts, config.neighbour_pages)
        mentions = _ask_for_mentions(pages, records, sentences, store, config, out)
        references = _find_references(records, sentences, mentions)
        _write_pairs(pages, records, references, store, out)
        write_rejected(pages, records, out)
        write_pages(pages, records, reading.sources, out)
        write_figures(pages, records, out)
        draw_pages(pages, records, config, out)
        write_contact_sheet(pages, records, references, drawing.result(), out)


def run_shard(
    config: TextbookPairsConfig, *, teaching_atlas: Path | None = None, shard: Shard, out: StageOutput
) -> None:
    """Reads one shard's share of the pages and writes their records and crops as `pages-*.zip`.

    Neighbours of figures that are another shard's pages are left to the run that merges the shards.

    Args:
        config: What to read and how.
        teaching_atlas: The sealed atlas; its `books/` are read if the configuration says so.
        shard: Whose stretches of pages, and whose files without pages, are this task's.
        out: Where the records and counts go.

    Raises:
        InputError: There is nothing to read.
    """
    pages, bad_files = _list_pages(_list_files(config, teaching_atlas))
    own = [at for number, part in enumerate(stretches(pages)) if shard.owns(number) for at in part]
    own_bad_files = [bad for number, bad in enumerate(bad_files) if shard.owns(number)]
    _count_files([pages[at] for at in own], own_bad_files, out)
    store = PageStore(out.scratch / "pages")
    with PagePool(store, config) as pool:
        reading = _Reading(pages, own, pool, out)
    records = reading.records
    inner = [at if set(_window(pages, at, config.neighbour_pages)) <= set(own) else None for at in range(len(pages))]
    _ask_for_mentions(
        pages,
        [None if at is None else records[at] for at in inner],
        _Sentences(pages, reading.texts, config.neighbour_pages),
        store,
        config,
        out,
    )
    pack(store.directory, out.path)
    out.num_out = sum(record is not None for record in records)


class _BadFile(NamedTuple):
    """A file without pages that can be read, and why."""

    label: str
    error: UnreadableImage


def _list_files(config: TextbookPairsConfig, teaching_atlas: Path | None) -> dict[Path, str]:
    """The files to read, each with the name by which its user knows it, wherever the atlas lies."""
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


def _list_pages(files: Mapping[Path, str]) -> tuple[list[Page], list[_BadFile]]:
    """The pages of all files, and the files that have none."""
    pages: list[Page] = []
    bad_files: list[_BadFile] = []
    copies = find_copies(list(files))
    for (path, label), name in zip(files.items(), unique_names(list(files)), strict=True):
        try:
            if path in copies:
                raise UnreadableImage("duplicate_file", f"the same bytes as {files[copies[path]]}, which is read")
            if path.suffix.lower() not in PAGE_SUFFIXES:
                raise UnreadableImage("unsupported_file", f"only {' '.join(sorted(PAGE_SUFFIXES))} are read")
            num_pages = count_pages(path)
        except UnreadableImage as error:
            bad_files.append(_BadFile(label, error))
            continue
        book = str(path if path.suffix.lower() == PDF_SUFFIX else path.parent)
        pages += [Page(path, index, name, book, label) for index in range(num_pages)]
    return pages, bad_files


def _count_files(pages: Sequence[Page], bad_files: Sequence[_BadFile], out: StageOutput) -> None:
    """Sets files without pages aside; each counts as one page."""
    out.num_in += len(pages) + len(bad_files)
    for label, error in bad_files:
        out.quarantine(label, error.reason, error.detail)


class _Reading:
    """Reads the figures of pages, and the text of those that are near a page with figures as soon as that is known.

    Attributes:
        records: The record of each page: None for one that was set aside, or is not among the `own` ones.
        texts: The body text of every page that is near a figure, empty for the others.
        sources: Where each page's text is from.
    """

    def __init__(self, pages: Sequence[Page], own: Sequence[int], pool: PagePool, out: StageOutput) -> None:
        self.records: list[PageRecord | None] = [None] * len(pages)
        self._pages = pages
        self._reach = pool.config.neighbour_pages
        self._store = pool.store
        self._near: set[int] = set()
        self._jobs = {at: Job(pages[at], "figures", key_of(at), _overleaf(pages, at)) for at in own}
        self._text_jobs: dict[int, Job] = {}
        self._bad: dict[int, BadPage] = {}
        self._read(pool, out)
        self._settle(out)

    def _settle(self, out: StageOutput) -> None:
        """Gathers in the order of the pages what was read in any."""
        for at, bad in sorted(self._bad.items()):
            out.quarantine(self._pages[at].item, bad.reason, bad.detail)
        self.texts = [list(record.paragraphs or []) if record else [] for record in self.records]
        self.sources = [record.text_source if record else TextSource() for record in self.records]
        for at, job in self._text_jobs.items():
            text = self._store.load(job, Text)
            if not isinstance(text, BadPage):
                self.texts[at], self.sources[at] = text.paragraphs, text.text_source

    def _read(self, pool: PagePool, out: StageOutput) -> None:
        queue = deque(self._jobs.values())
        count: Counter[str] = Counter()
        out.progress(0, len(self._jobs), "pages", reading="figures")
        for job in pool.read(queue):
            count[job.kind] += 1
            if job.kind == "figures":
                queue.extend(self._asked_by(job))
            if count["figures"] < len(self._jobs):
                out.progress(count["figures"], len(self._jobs), "pages", reading="figures")
            else:
                out.progress(count["text"], len(self._text_jobs), "neighbour pages", reading="text")

    def _asked_by(self, job: Job) -> list[Job]:
        """The pages whose text is to be read, now that this one's figures are known."""
        at = int(job.key)
        record = self._store.load(job, PageRecord)
        if isinstance(record, BadPage):
            self._bad[at] = record
            return []
        self.records[at] = record
        looked_at = [at]
        if record.figures:
            looked_at = _window(self._pages, at, self._reach)
            self._near.update(looked_at)
        asked = {
            other: Job(self._pages[other], "text", key_of(other))
            for other in looked_at
            if other in self._near
            and other not in self._text_jobs
            and (known := self.records[other]) is not None
            and known.paragraphs is None
        }
        self._text_jobs |= asked
        return list(asked.values())


def _draw_pictures(pages: Sequence[Page], shown: Sequence[int], pool: PagePool) -> dict[int, bytes]:
    """The pictures of some pages for reviewers, drawn by the pool, which ends after that, if it has begun at all."""
    if not pool.has_begun:
        return {at: page_picture(pages[at], pool.config) for at in shown}
    jobs = {at: Job(pages[at], "picture", key_of(at)) for at in shown}
    deque(pool.read(deque(jobs.values())), maxlen=0)
    pool.close()
    drawn = {at: job for at, job in jobs.items() if isinstance(pool.store.load(job, Drawn), Drawn)}
    return {at: pool.store.crop(picture_of(job.key)) for at, job in drawn.items()}


def _overleaf(pages: Sequence[Page], at: int) -> Page | None:
    """The next page of the same book."""
    return pages[at + 1] if at + 1 < len(pages) and pages[at + 1].book == pages[at].book else None


def _window(pages: Sequence[Page], at: int, reach: int) -> list[int]:
    """The pages of the same book at most `reach` pages away, in order."""
    return [
        other
        for other in range(max(at - reach, 0), min(at + reach + 1, len(pages)))
        if pages[other].book == pages[at].book
    ]


class _Sentences(NamedTuple):
    """The body text around every page."""

    pages: Sequence[Page]
    texts: Sequence[Sequence[str]]
    reach: int

    def around(self, at: int) -> list[str]:
        """The sentences of a page and its neighbours, in order."""
        return sentences_across(self.texts[other] for other in _window(self.pages, at, self.reach))


def _ask_for_mentions(
    pages: Sequence[Page],
    records: Sequence[PageRecord | None],
    sentences: _Sentences,
    store: PageStore,
    config: TextbookPairsConfig,
    out: StageOutput,
) -> dict[int, Mentions]:
    """What a language model finds for the figures of each page; nothing where no endpoint is named."""
    if config.references_endpoint is None:
        return {}
    asked = {
        Job(pages[at], "mentions", key_of(at)): record.figures
        for at, record in enumerate(records)
        if record and record.figures
    }
    answers = find_mentions(
        asked,
        lambda job: sentences.around(int(job.key)),
        store,
        config.references_endpoint,
        lambda done: out.progress(done, len(asked), "pages", reading="unnumbered mentions"),
    )
    found = {}
    for job, answer in answers.items():
        if isinstance(answer, BadPage):
            out.quarantine(job.page.item, answer.reason, answer.detail)
        else:
            found[int(job.key)] = answer
    return found


def _find_references(
    records: Sequence[PageRecord | None], sentences: _Sentences, unnumbered: Mapping[int, Mentions]
) -> dict[int, list[list[list[str]]]]:
    """The in-line references of every panel, figure by figure, of each page with figures."""
    references: dict[int, list[list[list[str]]]] = {}
    for at, record in enumerate(records):
        if record is None or not record.figures:
            continue
        around = sentences.around(at)
        others = unnumbered[at].found if at in unnumbered else []
        references[at] = [
            [
                _references_to(figure, panel, around, [m for m in others if m.figure == number])
                for panel in figure.panels
            ]
            for number, figure in enumerate(record.figures)
        ]
    return references


def _references_to(
    figure: Figure, panel: Panel, sentences: Sequence[str], unnumbered: Sequence[UnnumberedMention]
) -> list[str]:
    """The sentences that mean a panel, in their order."""
    label = None if panel.label == WHOLE else panel.label
    wanted = set(references_to(sentences, figure.number, label))
    wanted.update(mention.sentence for mention in unnumbered if label is None or mention.panel in ("", label))
    return [sentence for sentence in dict.fromkeys(sentences) if sentence in wanted]


def _write_pairs(
    pages: Sequence[Page],
    records: Sequence[PageRecord | None],
    references: Mapping[int, Sequence[Sequence[list[str]]]],
    store: PageStore,
    out: StageOutput,
) -> None:
    used: Counter[str] = Counter()
    count: Counter[str] = Counter()
    with ShardWriter(out.path / "pairs", PAIRS) as shards:
        for at, (page, record) in enumerate(zip(pages, records, strict=True)):
            if record is None or not record.figures:
                continue
            for figure, of_panels in zip(record.figures, references[at], strict=True):
                num_panels = len(figure.panels) if len(figure.panels) > 1 else 0
                count.update(figures=1, kept_whole=bool(figure.kept_whole), panels=num_panels)
                for panel, sentences in zip(figure.panels, of_panels, strict=True):
                    row = _pair(page, record, figure, panel, sentences, store.crop(panel.crop))
                    used[row["source_id"]] += 1
                    if used[row["source_id"]] > 1:
                        row["source_id"] += f"~{used[row['source_id']]}"
                    row["pair_id"] = _pair_id(row["source_id"], row["image_sha256"])
                    count.update(with_references=bool(row["inline_refs"]))
                    shards.write(row)
        out.num_out = shards.num_rows
    out.metric("num_pages", len(pages))
    out.metric("num_figures", count["figures"])
    out.metric("num_panels", count["panels"])
    out.metric("num_pairs", out.num_out)
    out.metric("share_kept_whole", count["kept_whole"] / max(count["figures"], 1))
    out.metric("share_with_references", count["with_references"] / max(out.num_out, 1))


def _pair(
    page: Page, record: PageRecord, figure: Figure, panel: Panel, references: list[str], crop: bytes
) -> dict[str, Any]:
    """One row of the pair schema, without its id."""
    source_id = f"{page.name}/p{page.number}/{figure.number or 'unnumbered'}/{panel.label or 'whole'}"
    corners = dict(zip(("x0", "y0", "x1", "y1"), panel.box, strict=True))
    return {
        **image_columns(crop, decode(crop, max_pixels=500_000_000), f"{source_id.replace('/', '-')}.jpg"),
        "caption": panel.caption,
        "inline_refs": references,
        "source": "textbook",
        "source_id": source_id,
        "region": {"page": page.number, **corners, "page_width": record.width, "page_height": record.height},
        "language": language_of(panel.caption),
    }


def _pair_id(source_id: str, image_sha256: str) -> str:
    return "textbook-" + hashlib.sha256(f"{source_id} {image_sha256}".encode()).hexdigest()[:16]
