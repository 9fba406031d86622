"""Reads rows of sealed shards by their numbers, on demand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from copy import copy
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


class ShardRows:
    """Rows of every shard below a directory, in order; a few row groups of them are in memory at a time.

    Data is neither copied nor read ahead, so that data sets of any size open at once. An access order that stays within
    few row groups for long (`plan.shuffled_passes`) reads each group once.

    Args:
        directory: Directory of the shards.
        columns: Columns to read; None for all.
        skipped: Numbers of rows that are left out; the others are numbered anew.
        groups_kept: Row groups in memory; None for all that were read.
    """

    def __init__(
        self,
        directory: Path,
        columns: Sequence[str] | None = None,
        *,
        skipped: Collection[int] = (),
        groups_kept: int | None = 1,
    ) -> None:
        self._columns = None if columns is None else list(columns)
        self._groups: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for shard in sorted(directory.rglob("*.parquet")):
            metadata = pq.read_metadata(shard)
            self._groups += [(shard, group) for group in range(metadata.num_row_groups)]
            sizes += [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = [0, *accumulate(sizes)]
        self._numbers = np.setdiff1d(np.arange(self._starts[-1]), np.asarray(list(skipped), dtype=np.int64))
        self._groups_kept = groups_kept
        self._keep_groups()

    def _keep_groups(self) -> None:
        self._table = lru_cache(maxsize=self._groups_kept)(self._read)

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads for itself.
        return {name: value for name, value in vars(self).items() if name != "_table"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._keep_groups()

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> dict[str, Any]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        place = int(self._numbers[number])
        group = bisect_right(self._starts, place) - 1
        (row,) = self._table(group).slice(place - self._starts[group], 1).to_pylist()
        return dict(row)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def without(self, numbers: Collection[int]) -> ShardRows:
        """Returns the same rows without some, the others numbered anew."""
        others = copy(self)
        others._numbers = np.delete(self._numbers, np.asarray(list(numbers), dtype=np.int64))
        return others

    def groups(self) -> npt.NDArray[np.int64]:
        """Returns the row group of each row."""
        return np.searchsorted(np.asarray(self._starts), self._numbers, side="right") - 1

    def _read(self, group: int) -> pa.Table:
        shard, index = self._groups[group]
        # Opened anew each time, and read in this thread: processes that were forked share no position in a file.
        with pq.ParquetFile(shard, memory_map=True) as file:
            return file.read_row_group(index, columns=self._columns, use_threads=False)
