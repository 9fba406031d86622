"""Which split a pair belongs to, from its name alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Literal

Split = Literal["train", "dev", "heldout"]

PROTECTION: dict[Split, int] = {"heldout": 0, "dev": 1, "train": 2}
"""Splits by how well they are guarded: a pair gives way to its duplicate in a split with a smaller number."""


def splitter(heldout: Sequence[str], dev_share: float) -> Callable[[str, str], Split]:
    """A function from source and source_id to the split.

    A pair is held out if `<source>/<source_id>` matches a glob pattern (`*` also crosses slashes). The rest
    is divided by a hash of the pair's group: a new pair moves no old one, and neighbours stay together.

    >>> split_of = splitter(["quilt/val/*"], dev_share=0.0)
    >>> split_of("quilt/val", "a"), split_of("quilt/train", "a")
    ('heldout', 'train')
    """
    is_heldout = re.compile("|".join(translate(pattern) for pattern in heldout)).match

    def split_of(source: str, source_id: str) -> Split:
        if is_heldout(f"{source}/{source_id}"):
            return "heldout"
        return "dev" if _fraction(f"{source}/{group_of(source_id)}") < dev_share else "train"

    return split_of


def group_of(source_id: str) -> str:
    """What pairs share that must not be divided: a book's page, or an image with several captions.

    >>> group_of("atlas/p12/fig3/a"), group_of("image_7#2"), group_of("image_7")
    ('atlas/p12', 'image_7', 'image_7')
    """
    return "/".join(source_id.split("/")[:2]).partition("#")[0]


def _fraction(name: str) -> float:
    """A number in [0, 1) that a name always has."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
