"""Finding perceptual hashes that differ in few bits, without comparing each with each."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

HASH_BITS = 64


class HammingIndex:
    """Hashes of 64 bits, searched by Hamming distance.

    The bits are cut into `max_bits + 1` bands. Two hashes that differ in at most `max_bits` bits agree in at
    least one whole band (pigeonhole), so only hashes that share a band's value are compared.

    >>> index = HammingIndex(max_bits=2)
    >>> index.add(0b1011, "a")
    >>> list(index.near(0b1000)), list(index.near(0b0100))
    ([('a', 2)], [])
    """

    def __init__(self, max_bits: int) -> None:
        self.max_bits = max_bits
        edges = [HASH_BITS * band // (max_bits + 1) for band in range(max_bits + 2)]
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in itertools.pairwise(edges)]
        self._buckets: list[dict[int, list[int]]] = [defaultdict(list) for _ in self._bands]
        self._names: dict[int, list[str]] = defaultdict(list)

    def add(self, value: int, name: str) -> None:
        """Remembers `name` under a hash."""
        if value not in self._names:
            for (low, mask), buckets in zip(self._bands, self._buckets, strict=True):
                buckets[value >> low & mask].append(value)
        self._names[value].append(name)

    def near(self, value: int) -> Iterator[tuple[str, int]]:
        """Yields every name within `max_bits` of a hash, with its distance, the nearest first."""
        found = {
            other
            for (low, mask), buckets in zip(self._bands, self._buckets, strict=True)
            for other in buckets.get(value >> low & mask, ())
        }
        distances = sorted(((value ^ other).bit_count(), other) for other in found)
        for distance, other in distances:
            if distance > self.max_bits:
                return
            for name in self._names[other]:
                yield name, distance
