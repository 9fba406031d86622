"""Which pairs of the corpus repeat others, and which one of them stays.

Three things make a pair a duplicate of one that is kept:

- the same image file with the same caption, or with one caption too many;
- an image that looks the same (perceptual hash) *with the same caption*. Looks alone do not count: pictures of
  one stain, and procedural ones above all, resemble each other and still show different specimens;
- for train and dev, an image that is the same or looks the same as one of a better guarded split, *whatever
  its caption*: an image that a model is scored on must not have been seen, under any words.

Of duplicates, the pair in the best guarded split stays, so held-out pairs never give way to training pairs. Within
a split it is the one with the most in-line references, then the longest caption, then the most pixels, then the
smallest id.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from components.data_processing.corpus.hamming import HammingIndex
from components.data_processing.corpus.splits import PROTECTION, Split


@dataclass(frozen=True)
class Candidate:
    """What decides about a pair; its image stays on disk."""

    pair_id: str
    split: Split
    caption: str
    source: str
    language: str
    num_inline_refs: int
    num_pixels: int
    image_sha256: str
    phash: int

    @property
    def rank(self) -> tuple[Any, ...]:
        """Smaller is kept rather."""
        return (
            PROTECTION[self.split],
            -self.num_inline_refs,
            -len(self.caption),
            -self.num_pixels,
            self.pair_id,
        )


@dataclass(frozen=True)
class Duplicate:
    """A pair that was dropped, and for which other."""

    pair_id: str
    split: Split
    reason: str
    kept: str
    different_bits: int


class Deduplicator:
    """The pairs kept so far, and whether another one repeats any of them.

    Args:
        near_duplicate_bits: See the stage's configuration, as for the others.
        isolation_bits: …
        max_captions_per_image: …
    """

    def __init__(self, near_duplicate_bits: int, isolation_bits: int, max_captions_per_image: int) -> None:
        self.near_duplicate_bits = near_duplicate_bits
        self.isolation_bits = isolation_bits
        self.max_captions_per_image = max_captions_per_image
        self.kept: dict[str, Candidate] = {}
        self._by_image: dict[str, list[Candidate]] = defaultdict(list)
        self._index = HammingIndex(max(near_duplicate_bits, isolation_bits))

    def place(self, candidate: Candidate) -> Duplicate | None:
        """Keeps a candidate, or says of which kept pair it is a duplicate. Candidates come by rank."""
        duplicate = self._exact(candidate) or self._near(candidate)
        if duplicate is None:
            self.kept[candidate.pair_id] = candidate
            self._by_image[candidate.image_sha256].append(candidate)
            self._index.add(candidate.phash, candidate.pair_id)
        return duplicate

    def _exact(self, candidate: Candidate) -> Duplicate | None:
        same = self._by_image.get(candidate.image_sha256, [])
        for kept in same:
            if kept.split != candidate.split:
                return _duplicate(candidate, kept, f"same_image_in_{kept.split}", 0)
            if kept.caption == candidate.caption:
                return _duplicate(candidate, kept, "same_image_and_caption", 0)
        if len(same) >= self.max_captions_per_image:
            return _duplicate(candidate, same[0], "same_image", 0)
        return None

    def _near(self, candidate: Candidate) -> Duplicate | None:
        for pair_id, different_bits in self._index.near(candidate.phash):
            kept = self.kept[pair_id]
            if kept.image_sha256 == candidate.image_sha256:
                continue
            if kept.split != candidate.split and different_bits <= self.isolation_bits:
                return _duplicate(candidate, kept, f"similar_image_in_{kept.split}", different_bits)
            if kept.caption == candidate.caption and different_bits <= self.near_duplicate_bits:
                return _duplicate(candidate, kept, "similar_image_and_caption", different_bits)
        return None


def deduplicate(
    candidates: Iterable[Candidate],
    deduplicator: Deduplicator,
    seen: Callable[[int], None] = lambda num: None,
) -> tuple[dict[str, Candidate], list[Duplicate]]:
    """Decides about all candidates, in the order of their rank.

    Args:
        candidates: All pairs.
        deduplicator: Holds the rules.
        seen: Called with the number of candidates decided about so far.

    Returns:
        The kept candidates by id, and the dropped ones.
    """
    duplicates = []
    for num, candidate in enumerate(sorted(candidates, key=lambda candidate: candidate.rank), 1):
        if duplicate := deduplicator.place(candidate):
            duplicates.append(duplicate)
        seen(num)
    return deduplicator.kept, duplicates


def count_reasons(duplicates: Iterable[Duplicate]) -> dict[str, int]:
    """Duplicates by reason, in alphabetical order.

    >>> count_reasons([Duplicate("a", "train", "same_image", "b", 0)])
    {'same_image': 1}
    """
    return dict(sorted(Counter(duplicate.reason for duplicate in duplicates).items()))


def _duplicate(candidate: Candidate, kept: Candidate, reason: str, different_bits: int) -> Duplicate:
    return Duplicate(candidate.pair_id, candidate.split, reason, kept.pair_id, different_bits)
