"""Joins rows that share a key, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Keys: TypeAlias = NDArray[np.uint32]
Words: TypeAlias = NDArray[np.uint64]

BLOCK_PAIRS = 1 << 21
"""Pairs handed out at once: some 100 MB with what is computed about them."""


class KeyJoin:
    """Finds, for every row on the left, the rows on the right that bear the same key.

    Both sides are sorted once with their row numbers packed below the key, which is several times faster than an
    argsort, and makes look-ups walk memory in order.
    """

    def __init__(self, left: Keys, right: Keys) -> None:
        self._left = _sorted_with_rows(left)
        self._right = _sorted_with_rows(right)
        keys = self._right >> np.uint64(32)
        wanted = self._left >> np.uint64(32)
        self._first = np.searchsorted(keys, wanted, side="left")
        self._count = np.searchsorted(keys, wanted, side="right") - self._first

    def pairs(self, max_count: int | None = None) -> Iterator[tuple[Integers, Integers]]:
        """Yields row numbers on the left and on the right; left rows with more than `max_count` partners wait."""
        chosen = self._count > 0 if max_count is None else (self._count > 0) & (self._count <= max_count)
        rows, first, count = self._left[chosen], self._first[chosen], self._count[chosen]
        ends = np.cumsum(count)
        start = 0
        while start < len(rows):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK_PAIRS, side="right")))
            block = count[start:stop]
            offsets = np.arange(block.sum()) - np.repeat(np.cumsum(block) - block, block)
            left = np.repeat(_rows(rows[start:stop]), block)
            yield left, _rows(self._right[np.repeat(first[start:stop], block) + offsets])
            start = stop

    def crowded(self, max_count: int) -> tuple[Integers, Integers]:
        """Returns the rows on the left with more than `max_count` partners, and all of those partners."""
        chosen = self._count > max_count
        first, count = self._first[chosen], self._count[chosen]
        marks = np.zeros(len(self._right) + 1, dtype=np.int64)
        # Equal keys give equal ranges: each is marked once.
        starts, index = np.unique(first, return_index=True)
        marks[starts] += 1
        marks[starts + count[index]] -= 1
        return _rows(self._left[chosen]), _rows(self._right[np.cumsum(marks[:-1]) > 0])


def splitmix64(values: Words) -> Words:
    """Maps values one to one such that neighbours spread over all 64 bits (the finaliser of splitmix64).

    >>> [int(value) % 1000 for value in splitmix64(np.arange(3, dtype=np.uint64))]
    [0, 789, 730]
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def upper_half(values: Words) -> Keys:
    """Returns the upper halves of well-mixed numbers, as keys."""
    return (values >> np.uint64(32)).astype(np.uint32)


def _sorted_with_rows(keys: Keys) -> Words:
    packed = (keys.astype(np.uint64) << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    return packed


def _rows(packed: Words) -> Integers:
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
