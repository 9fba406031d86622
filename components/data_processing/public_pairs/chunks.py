"""Divides sources into chunks that are read once each, and kept on disk so that nothing is read again.

First all records pass by and are written down by chunks; then worker processes read the chunks' images. A table's
chunks are stretches of its lines; slides are divided into groups, so that a slide is opened by one worker alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from components.data_processing.public_pairs.importers import import_rows
from components.data_processing.public_pairs.rows import BadRow, Row, from_line, hash_bucket, to_line
from components.data_processing.public_pairs.sources import PathGenSource, Source
from pathoflow.system.files import sync_tree, write_atomically

if TYPE_CHECKING:
    from pathoflow.contract.sharding import Shard

_PLAN_FILE = "plan.json"
_MAX_OPEN_FILES = 256


class Chunk(NamedTuple):
    """A part of a source.

    Attributes:
        name: Names its records' file and its pairs' folder; chunks in the order of their names give the output.
        source: The source's place among the sources.
        num_rows: Number of its records.
    """

    name: str
    source: int
    num_rows: int


def plan_chunks(
    sources: Sequence[Source], chunk_rows: int, scratch: Path, shard: Shard | None, on_row: Callable[[int], None]
) -> list[Chunk]:
    """Writes the records of every chunk, or of those of one shard, below `scratch`; an interrupted plan is redone.

    Args:
        sources: The data sets to read.
        chunk_rows: Records of a table's chunk.
        scratch: Where the records go.
        shard: Whose chunks are wanted; None for all.
        on_row: Hears how many records have passed by.

    Raises:
        InputError: A source cannot be read.
    """
    path = scratch / _PLAN_FILE
    if path.is_file():
        return [Chunk(*chunk) for chunk in json.loads(path.read_text())]
    folder = rows_folder(scratch)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chunks: list[Chunk] = []
    num_rows = num_chunks = 0
    for at, source in enumerate(sources):
        with _Spool(folder, at, num_chunks, shard, isinstance(source, PathGenSource)) as spool:
            for number, row in enumerate(import_rows(source)):
                spool.write(_chunk_of(number, row, source, chunk_rows), row)
                num_rows += 1
                on_row(num_rows)
        chunks += spool.chunks()
        num_chunks += spool.num_chunks if not isinstance(source, PathGenSource) else source.slide_groups
    sync_tree(folder)
    write_atomically(path, json.dumps(chunks))
    return chunks


def rows_folder(scratch: Path) -> Path:
    """Returns the folder with the records of the chunks."""
    return scratch / "rows"


def read_chunk_rows(scratch: Path, chunk: Chunk) -> Iterator[Row | BadRow]:
    """Yields the records of a chunk."""
    with (rows_folder(scratch) / f"{chunk.name}.jsonl").open() as file:
        yield from map(from_line, file)


def _chunk_of(number: int, row: Row | BadRow, source: Source, chunk_rows: int) -> int:
    """Returns the chunk of its source that a record belongs to, from 0."""
    if isinstance(source, PathGenSource):
        return hash_bucket(row.group if isinstance(row, Row) else row.item, source.slide_groups)
    return number // chunk_rows


class _Spool:
    """Writes the records of one source by chunks; records may come mixed, and only the shard's are kept."""

    def __init__(self, folder: Path, source: int, num_chunks_before: int, shard: Shard | None, mixed: bool) -> None:
        self._folder, self._source, self._before, self._shard = folder, source, num_chunks_before, shard
        self._max_open_files = _MAX_OPEN_FILES if mixed else 1
        self._files: dict[int, IO[str]] = {}
        self._num_rows: dict[int, int] = {}
        self._stack = ExitStack()
        self.num_chunks = 0

    def write(self, chunk: int, row: Row | BadRow) -> None:
        """Appends a record to its chunk."""
        self.num_chunks = max(self.num_chunks, chunk + 1)
        if self._shard is not None and not self._shard.owns(self._before + chunk):
            return
        if chunk not in self._files:
            if len(self._files) >= self._max_open_files:
                self._close()
            mode = "a" if chunk in self._num_rows else "w"
            self._files[chunk] = self._stack.enter_context((self._folder / f"{self._name(chunk)}.jsonl").open(mode))
        self._files[chunk].write(to_line(row))
        self._num_rows[chunk] = self._num_rows.get(chunk, 0) + 1

    def chunks(self) -> list[Chunk]:
        """Returns the chunks that have records, in order."""
        return [Chunk(self._name(chunk), self._source, num) for chunk, num in sorted(self._num_rows.items())]

    def _name(self, chunk: int) -> str:
        return f"{self._source:03d}-{chunk:07d}"

    def _close(self) -> None:
        self._stack.close()
        self._files.clear()

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
