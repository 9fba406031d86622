"""Reads the records of a CSV such that one bad line costs no other."""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from components.data_processing.public_pairs.rows import BadRow, printable
from pathoflow.errors import InputError

MAX_RECORD_LINES = 500
"""A record of more lines is an opening quotation mark without its end, which would swallow the rest of the table."""


@dataclass(frozen=True)
class Record:
    """One record: the number of its first line in the file, from 1, and its cells by column."""

    line: int
    cells: dict[str, str]


def read_table(path: Path, required: tuple[str, ...], encoding: str = "utf-8-sig") -> Iterator[Record | BadRow]:
    """Yields the records of a CSV; missing cells are empty.

    After a line whose quotation marks are wrong, reading goes on with the next line. Bytes that the encoding lacks
    stay in the cell as lone surrogates.

    Raises:
        InputError: The file cannot be read or lacks a required column.
    """
    # Captions of whole figures exceed the module's limit of 128 KiB a cell.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(newline="", encoding=encoding, errors="surrogateescape") as file:
            yield from _records(_Lines(file), path, required)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Correct public_pairs.sources.") from error
    except (LookupError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as {encoding}: {error}. Correct its encoding.") from error


def _records(lines: _Lines, path: Path, required: tuple[str, ...]) -> Iterator[Record | BadRow]:
    columns: list[str] | None = None
    reader = csv.reader(lines, strict=True)
    while True:
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except (csv.Error, _RunawayRecordError) as error:
            if columns is None:
                raise InputError(f"{path} is no CSV: its first line has no end ({error}).") from error
            yield BadRow(f"{path.name}:{lines.first}", "bad_quoting", f"{error}: {printable(lines.taken[0])[:200]!r}")
            lines.give_back()
            reader = csv.reader(lines, strict=True)
            continue
        if columns is None:
            columns = [name.strip() for name in cells]
            _check_columns(columns, path, required)
        elif len(cells) > len(columns):
            detail = f"{len(cells)} cells for {len(columns)} columns: {printable(lines.taken[0])[:200]!r}"
            yield BadRow(f"{path.name}:{lines.first}", "too_many_cells", detail)
        elif cells:
            yield Record(lines.first, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True)))
    if columns is None:
        raise InputError(f"{path} is empty. It needs a first line with {' and '.join(required)}.")


def _check_columns(columns: list[str], path: Path, required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {' and no column '.join(missing)}; it has "
            f"{printable(', '.join(columns))[:300] or 'no columns'}. Rename or add the column, name yours in "
            "public_pairs.sources, or set the file's encoding."
        )
    if twice := sorted({name for name in columns if name in required and columns.count(name) > 1}):
        raise InputError(f"{path} has two columns {twice[0]}. Rename one.")


class _RunawayRecordError(Exception):
    """A record has more lines than a record can have."""


class _Lines:
    """The lines of a file; those of the record in progress can be read again.

    Attributes:
        first: The number of the record's first line.
        taken: The record's lines so far.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._waiting: deque[str] = deque()
        self.first = 1
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) == MAX_RECORD_LINES:
            raise _RunawayRecordError(f"a quotation mark has no end within {MAX_RECORD_LINES} lines")
        line = self._waiting.popleft() if self._waiting else next(self._file)
        self.taken.append(line)
        return line

    def begin_record(self) -> None:
        """Forgets the record before."""
        self.first += len(self.taken)
        self.taken = []

    def give_back(self) -> None:
        """Lets all lines of the record but its first be read again."""
        self._waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]
