"""Compares captions as sets of shingles.

A caption's words are its runs of letters, digits and plus signs, in NFKC and case folded; every Chinese character is a
word. Its shingles are its runs of `shingle_words` words; a caption with fewer words is one shingle. Two captions
resemble each other as far as the Jaccard index of their sets of shingles says: the share of their shingles that they
have in common.

To find the ones that do without comparing all, each set gets a MinHash signature, cut into bands of a few rows; sets
with the same band meet. What meets is then compared exactly, so that only recall is left to chance.

Source: Broder: On the resemblance and containment of documents (1997); banding as in Leskovec, Rajaraman, Ullman:
Mining of massive datasets, section 3.4.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.data_processing.corpus.joins import Integers, Keys, Words, splitmix64, upper_half

_SEPARATOR, _LETTER, _WHOLE_WORD = 0, 1, 2
_CHUNK = 20_000
_ROUNDING = 1e-6
_PLACE = np.uint64(0x9E3779B97F4A7C15)
# Scripts that set no spaces between words: one character stands for one word.
_UNSPACED = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))


class Bands(NamedTuple):
    """The bands into which signatures are cut."""

    num_bands: int
    num_rows: int

    def recall(self, similarity: float) -> float:
        """Returns the probability that two sets of this similarity share a band.

        >>> round(Bands(12, 4).recall(0.8), 4), round(Bands(12, 4).recall(0.1), 4)
        (0.9982, 0.0012)
        """
        return float(1 - (1 - similarity**self.num_rows) ** self.num_bands)

    @classmethod
    def choose(cls, num_hashes: int, similarity: float, recall: float = 0.995) -> Bands:
        """Returns the longest bands, which let the fewest strangers meet, that still reach the recall.

        >>> Bands.choose(48, 0.8)
        Bands(num_bands=12, num_rows=4)
        """
        choices = [cls(num_hashes // rows, rows) for rows in range(num_hashes, 0, -1)]
        return next((bands for bands in choices if bands.recall(similarity) >= recall), choices[-1])


class CaptionSets:
    """The shingle sets of many captions.

    Args:
        captions: The captions; their order numbers them.
        shingle_words: Words in a shingle.
        num_hashes: Length of a MinHash signature.
        similarity: The Jaccard index from which on captions are to be found.

    Attributes:
        texts: A number for each caption that is equal for captions with the same words.
    """

    def __init__(
        self, captions: Iterable[list[str]], *, shingle_words: int, num_hashes: int, similarity: float
    ) -> None:
        self.similarity = similarity
        self.bands = Bands.choose(num_hashes, similarity)
        texts, counts, shingles = [], [], []
        for chunk in captions:
            for start in range(0, len(chunk), _CHUNK):
                text, count, shingle = _shingles(chunk[start : start + _CHUNK], shingle_words)
                texts.append(text)
                counts.append(count)
                shingles.append(shingle)
        self.texts: Words = np.concatenate([np.zeros(0, np.uint64), *texts])
        self._counts = np.concatenate([np.zeros(0, np.int64), *counts])
        self._starts = np.cumsum(self._counts) - self._counts
        self._shingles = np.concatenate([np.zeros(0, np.uint32), *shingles])
        self._band_keys: NDArray[np.uint32] | None = None
        self._has_bands = np.zeros(len(self.texts), dtype=bool)

    def may_resemble(self, left: Integers, right: Integers) -> NDArray[np.bool_]:
        """Checks whether two sets are near enough in size: if they share four fifths, neither is larger by more."""
        one, other = self._counts[left], self._counts[right]
        return np.asarray(np.minimum(one, other) >= (self.similarity - _ROUNDING) * np.maximum(one, other))

    def jaccard(self, left: Integers, right: Integers) -> NDArray[np.float32]:
        """Computes the exact Jaccard index of pairs of captions; 0 for two captions without words."""
        result = np.zeros(len(left), dtype=np.float32)
        for start in range(0, len(left), _CHUNK):
            rows, others = left[start : start + _CHUNK], right[start : start + _CHUNK]
            pair_a, values_a = self._gather(rows)
            pair_b, values_b = self._gather(others)
            pairs = np.concatenate([pair_a, pair_b]).astype(np.uint64)
            packed = (pairs << np.uint64(32)) | np.concatenate([values_a, values_b])
            packed.sort()
            # Each side is a set: a value that stands twice stands once on either side.
            common = packed[1:][packed[1:] == packed[:-1]] >> np.uint64(32)
            shared = np.bincount(common.astype(np.int64), minlength=len(rows))
            union = self._counts[rows] + self._counts[others] - shared
            result[start : start + len(rows)] = shared / np.maximum(union, 1)
        return result

    def band_keys(self, rows: Integers, band: int) -> Keys:
        """Returns one band of each caption's signature; signatures are computed when first asked for."""
        if self._band_keys is None:
            self._band_keys = np.zeros((len(self.texts), self.bands.num_bands), dtype=np.uint32)
        missing = np.unique(rows[~self._has_bands[rows]])
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            self._band_keys[chunk] = self._signatures(chunk)
        self._has_bands[missing] = True
        return np.asarray(self._band_keys[rows, band], dtype=np.uint32)

    def _signatures(self, rows: Integers) -> NDArray[np.uint32]:
        rows_with_words = self._counts[rows] > 0
        # Captions without words must meet nobody: their own number makes their key.
        keys = np.repeat(upper_half(splitmix64(rows.astype(np.uint64)))[:, None], self.bands.num_bands, axis=1)
        chosen = rows[rows_with_words]
        if not len(chosen):
            return keys
        _, values = self._gather(chosen)
        wide = values.astype(np.uint64)
        counts = self._counts[chosen]
        starts = np.cumsum(counts) - counts
        factors = splitmix64(np.arange(2 * self.bands.num_bands * self.bands.num_rows, dtype=np.uint64) + _PLACE)
        for band in range(self.bands.num_bands):
            key = np.full(len(chosen), band, dtype=np.uint64)
            for row in range(self.bands.num_rows):
                number = 2 * (band * self.bands.num_rows + row)
                hashed = (wide * (factors[number] | np.uint64(1)) + factors[number + 1]) >> np.uint64(32)
                key = splitmix64((key << np.uint64(1)) ^ (np.minimum.reduceat(hashed, starts) * _PLACE))
            keys[rows_with_words, band] = upper_half(key)
        return keys

    def _gather(self, rows: Integers) -> tuple[Integers, Keys]:
        """Returns the shingles of these captions in a row, each with its caption's place in `rows`."""
        counts = self._counts[rows]
        places = np.repeat(np.arange(len(rows)), counts)
        offsets = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self._shingles[self._starts[rows][places] + offsets]


def _shingles(captions: list[str], shingle_words: int) -> tuple[Words, Integers, Keys]:
    """Returns for each caption a hash of its words and the number of its shingles, and all shingles in a row."""
    owner, words = _words(captions)
    num_words = np.bincount(owner, minlength=len(captions))
    first = np.cumsum(num_words) - num_words
    place = np.arange(len(words), dtype=np.uint64) - np.repeat(first, num_words).astype(np.uint64)
    texts = np.zeros(len(captions), dtype=np.uint64)
    has_words = num_words > 0
    if len(words):
        weighted = words * (splitmix64(place + np.uint64(1)) | np.uint64(1))
        texts[has_words] = splitmix64(np.add.reduceat(weighted, first[has_words]))
    last = len(words) - shingle_words + 1
    rolling = np.zeros(max(last, 0), dtype=np.uint64)
    for step in range(shingle_words if last > 0 else 0):
        rolling = splitmix64(rolling * _PLACE + words[step : step + last])
    whole = owner[: len(rolling)] == owner[shingle_words - 1 : shingle_words - 1 + len(rolling)]
    brief = np.flatnonzero(has_words & (num_words < shingle_words))
    owners = np.concatenate([owner[: len(rolling)][whole], brief]).astype(np.uint64)
    values = np.concatenate([upper_half(rolling[whole]), upper_half(texts[brief])])
    packed = np.unique((owners << np.uint64(32)) | values)
    counts = np.bincount((packed >> np.uint64(32)).astype(np.int64), minlength=len(captions))
    return texts, counts, (packed & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def _words(captions: list[str]) -> tuple[Integers, Words]:
    """Hashes every word, and returns it with the number of its caption."""
    text = unicodedata.normalize("NFKC", "\n".join(captions)).casefold()
    points = np.frombuffer(text.encode("utf-32-le", errors="replace"), dtype=np.uint32)
    kinds = _character_classes()[np.minimum(points, 0xFFFF)]
    starts = (kinds == _WHOLE_WORD) | (
        (kinds == _LETTER) & np.concatenate([[True], kinds[:-1] != _LETTER])[: len(kinds)]
    )
    caption_of = np.cumsum(points == ord("\n"))
    in_word = kinds != _SEPARATOR
    letters = points[in_word].astype(np.uint64)
    first = np.flatnonzero(starts[in_word])
    if not len(first):
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    lengths = np.diff(np.append(first, len(letters)))
    place = (np.arange(len(letters)) - np.repeat(first, lengths)).astype(np.uint64)
    hashes = splitmix64(np.add.reduceat((letters + np.uint64(1)) * (splitmix64(place + _PLACE) | np.uint64(1)), first))
    return caption_of[starts].astype(np.int64), hashes


@cache
def _character_classes() -> NDArray[np.uint8]:
    """Returns the class of each character of the basic plane; those beyond are taken for letters."""
    kinds = np.array(
        [_LETTER if unicodedata.category(chr(point))[0] in "LNM" else _SEPARATOR for point in range(0x10000)],
        dtype=np.uint8,
    )
    for first, last in _UNSPACED:
        kinds[first : last + 1] = np.where(kinds[first : last + 1] == _LETTER, _WHOLE_WORD, _SEPARATOR)
    kinds[ord("+")] = _LETTER
    return kinds
