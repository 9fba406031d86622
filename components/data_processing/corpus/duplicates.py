"""Finds pairs of the corpus that repeat others, and decides which one of them stays.

All pairs are ordered by rank, and decided about in that order: a pair is dropped if it duplicates one that is *kept*,
and kept otherwise. So what stays depends on the pairs alone, not on the order in which they were read; every dropped
pair names a kept one with which it breaks the rule; and a chain of small steps cannot merge what is far apart.

A pair stands before another if it comes from a source of higher priority, then if it has in-line references, then if
its image has more pixels, then if its caption is longer, and at last if its id sorts first.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.hamming import distances
from components.data_processing.corpus.joins import Integers, Words
from components.data_processing.corpus.neighbours import Finder, build_finders
from components.data_processing.corpus.shingles import CaptionSets
from components.data_processing.corpus.splits import compile_globs

_FIRST_BLOCK = 4096


class Drop(NamedTuple):
    """The reason why a pair is dropped.

    Attributes:
        reason: A snake_case word to count by.
        kept: Row of the pair that stays in its place; -1 if there is none.
        detail: Anything else that explains it.
    """

    reason: str
    kept: int = -1
    detail: str = ""


@dataclass
class Candidates:
    """The columns by which pairs are compared; pairs are numbered by rank, the best is 0.

    Attributes:
        hashes: Perceptual hashes.
        images: A number for each image file, equal for equal files.
        captions: The captions' shingles; `captions.texts` is equal for equal words.
        dropped: Why a pair goes, by its number.
    """

    hashes: Words
    images: Integers
    captions: CaptionSets
    dropped: dict[int, Drop] = field(default_factory=dict)

    def remaining(self, rows: Integers) -> Integers:
        """Returns those of some rows that were not dropped."""
        gone = np.zeros(len(self.hashes), dtype=bool)
        gone[list(self.dropped)] = True
        return rows[~gone[rows]]


def rank(survey: pa.Table, source_priority: tuple[str, ...]) -> Integers:
    """Ranks the rows of a survey, the ones that are kept rather than others first."""
    sources = survey["source"].combine_chunks().dictionary_encode()
    matches = [compile_globs([pattern]) for pattern in source_priority]
    priorities = [
        next((place for place, match in enumerate(matches) if match(source or "")), len(matches))
        for source in sources.dictionary.to_pylist()
    ]
    priority = np.array([*priorities, 0])[pc.fill_null(sources.indices, 0).to_numpy(zero_copy_only=False)]
    has_refs = int_column(survey, "num_refs") > 0
    pixels = int_column(survey, "width").astype(np.int64) * int_column(survey, "height")
    length = pc.fill_null(pc.utf8_length(survey["caption"]), 0).to_numpy()
    # The last keys only tell apart pairs that bear one id, of which all but the first are set aside.
    names = dense_rank(survey["pair_id"])
    images = dense_rank(survey["image_sha256"].cast(pa.binary()))
    return np.lexsort((images, names, -length.astype(np.int64), -pixels, ~has_refs, priority))


def int_column(survey: pa.Table, name: str) -> NDArray[np.int64]:
    """Returns a column of integers; 0 where there is none."""
    return pc.fill_null(survey[name], 0).to_numpy()  # type: ignore[no-any-return]


def dense_rank(column: pa.ChunkedArray) -> Integers:
    """Returns the dense rank of each value of a column, from 0; nulls come last."""
    order = pc.sort_indices(column).to_numpy()
    ordered = column.take(pa.array(order))
    fresh = pc.fill_null(pc.not_equal(ordered[1:], ordered[:-1]), True).to_numpy(zero_copy_only=False)
    places = np.zeros(len(order), dtype=np.int64)
    places[order[1:]] = np.cumsum(fresh)
    return places


def deduplicate(rows: Integers, candidates: Candidates, config: CorpusConfig) -> None:
    """Drops those of some rows, in ascending order, that duplicate others among them.

    Rows are taken in blocks that double in size. What duplicates a pair kept from earlier blocks is gone before the
    rest of a block is compared with itself: thousands of images that all look alike then cost one comparison each.
    """
    views = [_View(finder, classes) for finder, classes in _views(candidates, config)]
    limits = _Limits(candidates, config)
    start, size = 0, _FIRST_BLOCK
    while start < len(rows):
        _decide(rows[start : start + size], views, limits, candidates, config)
        start, size = start + size, 2 * size


class _View:
    """One of the ways in which pairs may be duplicates.

    Pairs with the same hash and words (or only hash, or only words, by the rule) are of one class, and stand in the
    same relation to every other pair. At most one of a class is kept, and only one needs to be compared.
    """

    def __init__(self, find: Finder, classes: Integers) -> None:
        self._find = find
        self._classes = classes
        self._kept_of_class = np.full(int(classes.max(initial=-1)) + 1, -1, dtype=np.int64)
        self._near: dict[int, list[int]] = {}

    def prepare(self, block: Integers) -> NDArray[np.bool_]:
        """Finds what the rows of a block may duplicate, and returns a mask of those that may be duplicates.

        Their classes are compared with kept pairs first, then among themselves.
        """
        self._near = {}
        classes = self._classes[block]
        fresh = block[self._kept_of_class[classes] < 0]
        # The best of each class speaks for it.
        speakers = np.sort(fresh[np.unique(self._classes[fresh], return_index=True)[1]])
        known = self._find(speakers, np.sort(self._kept_of_class[self._kept_of_class >= 0]))
        rest = speakers[~np.isin(speakers, known.left)]
        among = self._find(rest, rest)
        for found in (known, among):
            lefts, rights = self._classes[found.left], self._classes[found.right]
            for left, right in zip(lefts.tolist(), rights.tolist(), strict=True):
                self._near.setdefault(left, []).append(right)
        _, place, count = np.unique(classes, return_inverse=True, return_counts=True)
        near = np.isin(classes, np.fromiter(self._near, dtype=np.int64, count=len(self._near)))
        return (count[place] > 1) | (self._kept_of_class[classes] >= 0) | near

    def duplicate_of(self, row: int) -> int | None:
        """Returns the kept pair that a row duplicates: one of its class, or else the best one."""
        number = int(self._classes[row])
        if (kept := int(self._kept_of_class[number])) >= 0:
            return kept
        found = [int(self._kept_of_class[other]) for other in self._near.get(number, ())]
        return min((kept for kept in found if kept >= 0), default=None)

    def keep(self, rows: Integers | int) -> None:
        """Remembers rows as kept."""
        self._kept_of_class[self._classes[rows]] = rows


class _Limits:
    """Limits on the pairs kept of one image, or under one caption."""

    def __init__(self, candidates: Candidates, config: CorpusConfig) -> None:
        self._limits = [("too_many_captions", candidates.images, config.max_captions_per_image)]
        if config.max_images_per_caption is not None:
            self._limits.append(
                ("too_many_images", _factorize(candidates.captions.texts), config.max_images_per_caption)
            )
        self._common = [np.bincount(keys)[keys] > most for _, keys, most in self._limits]
        self._kept: list[dict[int, list[int]]] = [defaultdict(list) for _ in self._limits]

    def involved(self, block: Integers) -> NDArray[np.bool_]:
        """Returns a mask of rows that share an image or a caption with more others than are kept."""
        return np.asarray(np.logical_or.reduce([common[block] for common in self._common]), dtype=np.bool_)

    def exceeded(self, row: int) -> Drop | None:
        """Returns why one more row is too many; it gives way to the best of those kept."""
        for (reason, keys, most), kept in zip(self._limits, self._kept, strict=True):
            if len(others := kept[int(keys[row])]) >= most:
                return Drop(reason, others[0])
        return None

    def keep(self, row: int) -> None:
        """Counts a kept row."""
        for (_, keys, _), kept, common in zip(self._limits, self._kept, self._common, strict=True):
            if common[row]:
                kept[int(keys[row])].append(row)


def _decide(block: Integers, views: list[_View], limits: _Limits, candidates: Candidates, config: CorpusConfig) -> None:
    involved = np.logical_or.reduce([limits.involved(block), *(view.prepare(block) for view in views)])
    for view in views:
        view.keep(block[~involved])
    repeats: dict[int, int] = {}
    for row in block[involved].tolist():
        kept = next((kept for view in views if (kept := view.duplicate_of(row)) is not None), None)
        if kept is not None:
            repeats[row] = kept
        elif drop := limits.exceeded(row):
            candidates.dropped[row] = drop
        else:
            limits.keep(row)
            for view in views:
                view.keep(row)
    rows, others = np.fromiter(repeats, np.int64, len(repeats)), np.fromiter(repeats.values(), np.int64, len(repeats))
    for row, other, reason in zip(
        rows.tolist(), others.tolist(), _reasons(rows, others, candidates, config), strict=True
    ):
        candidates.dropped[row] = Drop(reason, other)


def _reasons(rows: Integers, others: Integers, candidates: Candidates, config: CorpusConfig) -> list[str]:
    """Names what each pair has in common with the one that it duplicates, whatever the rule asks for."""
    captions = candidates.captions
    looks = np.where(distances(candidates.hashes[rows], candidates.hashes[others]) <= config.near_duplicate_bits, 1, 0)
    looks = np.where(candidates.images[rows] == candidates.images[others], 2, looks)
    words = np.where(captions.jaccard(rows, others) >= np.float32(captions.similarity), 1, 0)
    words = np.where(captions.texts[rows] == captions.texts[others], 2, words)
    names = [
        "_and_".join(filter(None, (look, word)))
        for look in ("", "similar_image", "same_image")
        for word in ("", "similar_caption", "same_caption")
    ]
    return [names[place] for place in (3 * looks + words).tolist()]


def _views(candidates: Candidates, config: CorpusConfig) -> list[tuple[Finder, Integers]]:
    hashes, texts = _factorize(candidates.hashes), _factorize(candidates.captions.texts)
    both = _factorize(hashes.astype(np.uint64) << np.uint64(32) | texts.astype(np.uint64))
    classes = {
        "image": [hashes],
        "caption": [texts],
        "image_or_caption": [hashes, texts],
        "image_and_caption": [both],
    }[config.duplicate_rule]
    return list(
        zip(build_finders(config.duplicate_rule, config, candidates.hashes, candidates.captions), classes, strict=True)
    )


def _factorize(values: NDArray[np.generic]) -> Integers:
    """Encodes values as integers from 0, equal for equal values."""
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64)
