"""An index from ids to files: 64-bit fingerprints of every id of every shard, in buckets that are read whole.

A bucket holds the fingerprints that begin with the same byte, in the order in which they came, so that adding is
appending and a question reads one bucket, a 256th of all. Two of n ids have the same fingerprint with a probability of
n² / 2⁶⁵; that one of 200 million is taken for another is one in a hundred thousand million questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_ENTRY = np.dtype([("fingerprint", "<u8"), ("file", "<u4")])
_NUM_BUCKETS = 256
_FLUSH_ENTRIES = 8_000_000


def fingerprints(values: Sequence[str | None] | pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Computes one fingerprint for each value that is not null."""
    from pandas.util import hash_array

    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, pa.string())
    strings = array.drop_null().to_numpy(zero_copy_only=False)
    return np.asarray(hash_array(np.asarray(strings, dtype=object), categorize=False), dtype=np.uint64)


class Buckets:
    """Fingerprints on disk.

    Args:
        folder: Holds one file for each bucket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pending: list[NDArray[np.void]] = []
        self._num_pending = 0

    def add(self, file: int, found: NDArray[np.uint64]) -> None:
        """Says that a file holds the ids with these fingerprints; `flush` makes it lasting."""
        unique = np.unique(found)
        entries = np.empty(len(unique), _ENTRY)
        entries["fingerprint"], entries["file"] = unique, file
        self._pending.append(entries)
        self._num_pending += len(entries)
        if self._num_pending >= _FLUSH_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Appends what was added to the buckets."""
        if not self._pending:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = np.concatenate(self._pending)
        self._pending, self._num_pending = [], 0
        entries = entries[np.argsort(entries["fingerprint"], kind="stable")]
        numbers = _bucket_numbers(entries["fingerprint"])
        ends = np.searchsorted(numbers, np.arange(_NUM_BUCKETS), side="right")
        start = 0
        for number, end in enumerate(ends):
            if end > start:
                with self._path(number).open("ab") as bucket:
                    entries[start:end].tofile(bucket)
            start = int(end)

    def files_with(self, wanted: Iterable[np.uint64]) -> set[int]:
        """Returns the files that hold any of these ids."""
        values = np.unique(np.fromiter(wanted, dtype=np.uint64))
        found: set[int] = set()
        numbers = _bucket_numbers(values)
        for number in np.unique(numbers):
            path = self._path(int(number))
            if not path.is_file():
                continue
            # A killed update may have left a part of an entry at the end.
            entries = np.fromfile(path, _ENTRY, count=path.stat().st_size // _ENTRY.itemsize)
            here = values[numbers == number]
            hits = entries["fingerprint"] == here[0] if len(here) == 1 else np.isin(entries["fingerprint"], here)
            found.update(entries["file"][hits].tolist())
        return found

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:02x}.bin"


def _bucket_numbers(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return values >> np.uint64(56)
