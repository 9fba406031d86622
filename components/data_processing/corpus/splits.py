"""Assigns a pair to a split by its name alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from functools import cache
from typing import Literal

Split = Literal["train", "dev", "heldout"]

SPLITS: tuple[Split, ...] = ("heldout", "dev", "train")
"""Best guarded first: a pair gives way to its duplicate in a split that stands before its own."""


def compile_globs(patterns: Sequence[str]) -> Callable[[str], object]:
    """Compiles glob patterns into a function that matches a name against any of them; `*` also crosses slashes."""
    return re.compile("|".join(map(translate, patterns)) if patterns else r"(?!)").match


class Splitter:
    """Derives splits and groups from names.

    A pair is held out if `<source>/<source_id>` matches a glob pattern. The rest is divided by a hash of the name of
    the pair's group, so that a new pair moves no old one, and what belongs together stays together.

    >>> splitter = Splitter(["quilt/val/*"], dev_share=0.0)
    >>> splitter.split_of("quilt/val", "a"), splitter.split_of("quilt/train", "a")
    ('heldout', 'train')

    Args:
        heldout: Patterns of what is held out.
        dev_share: Share of the other groups that goes to dev.
        groups: By a pattern over the source, where a source_id names its group.
    """

    def __init__(self, heldout: Sequence[str], dev_share: float, groups: Mapping[str, str] | None = None) -> None:
        self._is_heldout = compile_globs(heldout)
        self._dev_share = dev_share
        self._groups = [(compile_globs([source]), re.compile(pattern)) for source, pattern in (groups or {}).items()]
        self._is_dev = cache(lambda group: _hash_to_unit(group) < self._dev_share)

    def split_of(self, source: str, source_id: str) -> Split:
        """Returns the split of a pair."""
        if self._is_heldout(f"{source}/{source_id}"):
            return "heldout"
        return "dev" if self._is_dev(self.group_of(source, source_id)) else "train"

    def group_of(self, source: str, source_id: str) -> str:
        """Returns the name of a group that must not be divided: a book, a slide, an article, an image's captions.

        >>> Splitter(["x"], 0.1).group_of("textbook", "atlas/p12/fig3/a")
        'textbook/atlas'
        >>> Splitter(["x"], 0.1, {"quilt*": "(.+)_image_"}).group_of("quilt/train", "v7_image_3#2")
        'quilt/v7'
        """
        # Without its split: a film with pairs in a source's own train and val parts is one film.
        data_set = source.partition("/")[0]
        for is_source, pattern in self._groups:
            if is_source(source) and (match := pattern.match(source_id)) and match.group(1):
                return f"{data_set}/{match.group(1)}"
        return f"{data_set}/{source_id.partition('/')[0].partition('#')[0]}"


def _hash_to_unit(name: str) -> float:
    """Hashes a name to a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
