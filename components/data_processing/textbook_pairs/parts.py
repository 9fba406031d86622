"""Packs the records of one shard into a few large files, and unpacks them in the run that merges the shards."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.data_processing.textbook_pairs.pages.page import Page
from pathoflow.system.files import sync_directory

PART_BYTES = 1 << 30
"""A part's file ends with the record that brings it to this size."""

PAGES_TOGETHER = 128
"""Pages of one book that one shard reads: enough that few have their neighbours in another shard."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def page_runs(pages: Sequence[Page]) -> Iterator[range]:
    """Yields runs of pages that one shard reads together, at most `PAGES_TOGETHER` and within one book."""
    begin = 0
    for at in range(1, len(pages) + 1):
        if at == len(pages) or pages[at].book != pages[begin].book or at - begin == PAGES_TOGETHER:
            yield range(begin, at)
            begin = at


def pack(records: Path, directory: Path) -> None:
    """Writes every file of `records` to zip files `pages-00000.zip`, …, whose bytes depend on these files alone."""
    directory.mkdir(parents=True, exist_ok=True)
    archive: zipfile.ZipFile | None = None
    num_archives = num_bytes = 0
    # Pixels do not compress any further.
    for path in sorted(path for path in records.iterdir() if not path.name.startswith(".")):
        if archive is None:
            archive = zipfile.ZipFile(directory / f"pages-{num_archives:05d}.zip", "w", zipfile.ZIP_STORED)
            num_archives, num_bytes = num_archives + 1, 0
        content = path.read_bytes()
        archive.writestr(zipfile.ZipInfo(path.name, date_time=_EPOCH), content)
        num_bytes += len(content)
        if num_bytes >= PART_BYTES:
            archive.close()
            archive = None
    if archive is not None:
        archive.close()


def unpack(parts: Sequence[Path], records: Path) -> None:
    """Unpacks what the shards read into `records`, where the merging run finds it done; safe to repeat."""
    if not parts:
        return
    records.mkdir(parents=True, exist_ok=True)
    for path in (path for part in parts for path in sorted(part.glob("pages-*.zip"))):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                # The seal says that these are a shard's own names, which lead nowhere else.
                if (records / name).exists():
                    continue
                temporary = records / f".{name}.tmp"
                with archive.open(name) as source, temporary.open("wb") as target:
                    shutil.copyfileobj(source, target)
                temporary.replace(records / name)
    # One barrier for all: what a crash of the machine loses is unpacked again, what it tore must not count.
    os.sync()
    sync_directory(records)
