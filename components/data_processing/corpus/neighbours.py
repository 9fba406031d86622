"""Finds near duplicates by image, by caption, or by both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.data_processing.corpus.config import CorpusConfig, DuplicateRule
from components.data_processing.corpus.hamming import agree_in_any_table, band_masks, distances, table_keys
from components.data_processing.corpus.joins import Integers, KeyJoin, Words, splitmix64, upper_half
from components.data_processing.corpus.shingles import CaptionSets

CROWD = 128
"""More hashes than this under one key of a table are told apart by their captions first."""

_NO_BITS = -1


class Neighbours(NamedTuple):
    """Pairs of rows that are near each other, with their distances.

    Attributes:
        left: Row numbers on the left.
        right: Row numbers on the right.
        bits: Bits in which the images' hashes differ; -1 where images were not compared.
        similarity: Jaccard index of the captions; nan where captions were not compared.
    """

    left: Integers
    right: Integers
    bits: Integers
    similarity: NDArray[np.float32]

    def select(self, chosen: NDArray[np.bool_] | Integers) -> Neighbours:
        """Selects some of them."""
        return Neighbours(self.left[chosen], self.right[chosen], self.bits[chosen], self.similarity[chosen])

    @classmethod
    def concatenate(cls, parts: Sequence[Neighbours]) -> Neighbours:
        """Concatenates them, each pair once, ordered by row numbers."""
        if not parts:
            none = np.zeros(0, np.int64)
            return cls(none, none, none, np.zeros(0, np.float32))
        every = cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        packed = (every.left.astype(np.uint64) << np.uint64(32)) | every.right.astype(np.uint64)
        return every.select(np.unique(packed, return_index=True)[1])


Finder = Callable[[Integers, Integers], Neighbours]
"""Finds which rows of the first kind are near which of the second, given both by their row numbers."""


def build_finders(rule: DuplicateRule, config: CorpusConfig, hashes: Words, captions: CaptionSets) -> list[Finder]:
    """Returns the searches of a rule: rows are duplicates if one of them finds them near."""
    bits = config.near_duplicate_bits
    return {
        "image": [lambda left, right: near_images(left, right, hashes, bits)],
        "caption": [lambda left, right: near_captions(left, right, captions)],
        "image_or_caption": [
            lambda left, right: near_images(left, right, hashes, bits),
            lambda left, right: near_captions(left, right, captions),
        ],
        "image_and_caption": [lambda left, right: near_images_and_captions(left, right, hashes, captions, bits)],
    }[rule]


def near_images(left: Integers, right: Integers, hashes: Words, max_bits: int) -> Neighbours:
    """Finds rows whose perceptual hashes differ in at most `max_bits` bits."""
    masks = band_masks(max_bits, len(left) + len(right))
    parts = []
    for number, mask in enumerate(masks):
        for rows, others in _table(hashes, left, right, mask).pairs():
            parts.append(_near_in_table(left[rows], right[others], hashes, max_bits, masks[:number]))
    return Neighbours.concatenate(parts)


def near_captions(left: Integers, right: Integers, captions: CaptionSets) -> Neighbours:
    """Finds rows whose captions share enough of their shingles."""
    parts = []
    for band in range(captions.bands.num_bands):
        join = KeyJoin(captions.band_keys(left, band), captions.band_keys(right, band))
        for rows, others in join.pairs():
            pairs = left[rows], right[others]
            parts.append(_similar_captions(*pairs, np.full(len(rows), _NO_BITS), captions))
    return Neighbours.concatenate(parts)


def near_images_and_captions(
    left: Integers, right: Integers, hashes: Words, captions: CaptionSets, max_bits: int
) -> Neighbours:
    """Finds rows that are near in both ways.

    Images that thousands share (blank ones, covers, logos) would be compared each with each, only to find that their
    captions differ. Where too many hashes meet in a table, rows must also meet in a band of their captions.
    """
    masks = band_masks(max_bits, len(left) + len(right))
    parts = []
    for number, mask in enumerate(masks):
        table = _table(hashes, left, right, mask)
        for rows, others in _all_pairs(table, left, right, hashes, captions, mask):
            near = _near_in_table(rows, others, hashes, max_bits, masks[:number])
            parts.append(_similar_captions(near.left, near.right, near.bits, captions))
    return Neighbours.concatenate(parts)


def _all_pairs(
    table: KeyJoin, left: Integers, right: Integers, hashes: Words, captions: CaptionSets, mask: int
) -> Iterator[tuple[Integers, Integers]]:
    """Yields all pairs of a table but those in crowds whose captions share no band."""
    for rows, others in table.pairs(CROWD):
        yield left[rows], right[others]
    crowded_rows, crowded_others = table.crowded(CROWD)
    if not len(crowded_rows):
        return
    crowd, others = left[crowded_rows], right[crowded_others]
    for band in range(captions.bands.num_bands):
        bands = (splitmix64(captions.band_keys(rows, band).astype(np.uint64)) for rows in (crowd, others))
        masked = (hashes[rows] & np.uint64(mask) for rows in (crowd, others))
        keys = [upper_half(splitmix64(one ^ other)) for one, other in zip(masked, bands, strict=True)]
        for some, partners in KeyJoin(*keys).pairs():
            yield crowd[some], others[partners]


def _table(hashes: Words, left: Integers, right: Integers, mask: int) -> KeyJoin:
    return KeyJoin(table_keys(hashes[left], mask), table_keys(hashes[right], mask))


def _near_in_table(
    rows: Integers, others: Integers, hashes: Words, max_bits: int, masks_before: tuple[int, ...]
) -> Neighbours:
    """Returns the near pairs that no table before found, without pairs of a row with itself."""
    bits = distances(hashes[rows], hashes[others])
    near = np.flatnonzero((bits <= max_bits) & (rows != others))
    near = near[~agree_in_any_table(hashes[rows[near]], hashes[others[near]], masks_before)]
    return Neighbours(rows[near], others[near], bits[near], np.full(len(near), np.nan, np.float32))


def _similar_captions(rows: Integers, others: Integers, bits: Integers, captions: CaptionSets) -> Neighbours:
    different = np.flatnonzero((rows != others) & captions.may_resemble(rows, others))
    rows, others, bits = rows[different], others[different], bits[different]
    equal = (captions.texts[rows] == captions.texts[others]) & (captions.texts[rows] != 0)
    similarity = equal.astype(np.float32)
    # Pairs that meet in several bands are compared once.
    packed = (rows[~equal].astype(np.uint64) << np.uint64(32)) | others[~equal].astype(np.uint64)
    distinct, place = np.unique(packed, return_inverse=True)
    once = (distinct >> np.uint64(32)).astype(np.int64), (distinct & np.uint64(0xFFFFFFFF)).astype(np.int64)
    similarity[~equal] = captions.jaccard(*once)[place]
    return Neighbours(rows, others, bits, similarity).select(similarity >= np.float32(captions.similarity))
