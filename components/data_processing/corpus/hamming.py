"""Finds perceptual hashes that differ in few bits, without comparing all pairs.

The bits are cut into `num_bands` bands. Two hashes that differ in at most `max_bits` bits agree in at least
`num_bands - max_bits` whole bands (pigeonhole). Each choice of that many bands is a table: hashes that agree in it are
compared, and every near pair agrees in at least one. More bands mean more tables with longer keys, so that fewer
strangers meet in them: how many are best depends on the number of hashes.

Source: Manku, Jain, Das Sarma: Detecting near-duplicates for web crawling (WWW 2007), section 3.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np

from components.data_processing.corpus.joins import Integers, Keys, Words, splitmix64, upper_half

HASH_BITS = 64
_MOST_TABLES = 800
# Measured on one core: to sort and look up a row in a table, and to compare two hashes.
_ROW_NS = 150.0
_COMPARISON_NS = 15.0


@cache
def band_masks(max_bits: int, num_hashes: int) -> tuple[int, ...]:
    """Returns for each table the bits in which its hashes agree: the cheapest choice for so many hashes.

    >>> [f"{mask:016x}" for mask in band_masks(1, 1000)]
    ['00000000ffffffff', 'ffffffff00000000']
    >>> len(band_masks(4, 10_000)), len(band_masks(4, 10_000_000))
    (5, 15)
    """
    best = min(range(1, HASH_BITS - max_bits + 1), key=lambda kept: _cost(max_bits, kept, num_hashes))
    num_bands = max_bits + best
    edges = [HASH_BITS * band // num_bands for band in range(num_bands + 1)]
    bands = [(1 << high) - (1 << low) for low, high in itertools.pairwise(edges)]
    return tuple(sum(chosen) for chosen in itertools.combinations(bands, best))


def table_keys(hashes: Words, mask: int) -> Keys:
    """Returns the keys by which hashes are looked up in one table."""
    return upper_half(splitmix64(hashes & np.uint64(mask)))


def distances(left: Words, right: Words) -> Integers:
    """Returns the Hamming distances of hashes, pair by pair.

    >>> distances(np.array([3], dtype=np.uint64), np.array([5], dtype=np.uint64)).tolist()
    [2]
    """
    return np.asarray(np.bitwise_count(left ^ right), dtype=np.int64)


def agree_in_any_table(left: Words, right: Words, masks: tuple[int, ...]) -> np.ndarray:
    """Checks which pairs of hashes agree in one of these tables, so that each is reported once."""
    different = left ^ right
    met = np.zeros(len(left), dtype=bool)
    for mask in masks:
        met |= (different & np.uint64(mask)) == 0
    return met


def _cost(max_bits: int, kept: int, num_hashes: int) -> float:
    """Estimates the nanoseconds for all tables in which `kept` of `max_bits + kept` bands agree."""
    num_tables = math.comb(max_bits + kept, kept)
    if num_tables > _MOST_TABLES and kept > 1:
        return math.inf
    strangers = num_hashes**2 / 2 ** (HASH_BITS * kept / (max_bits + kept)) / 2
    return num_tables * (num_hashes * _ROW_NS + strangers * _COMPARISON_NS)
