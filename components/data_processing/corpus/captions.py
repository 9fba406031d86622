"""Captions in one form, so that equal texts are equal strings."""

from __future__ import annotations

import unicodedata

# Control and format characters (null bytes, soft hyphens, byte-order marks, zero-width spaces), halves of
# surrogate pairs, private-use characters: left behind by PDF fonts and web pages, and no part of the words.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co"})


def normalised(caption: str) -> str:
    r"""A caption in NFC, without invisible characters, and with single spaces.

    >>> normalised("  Lip\u00adoma\u0000 of\tthe\nback ")
    'Lipoma of the back'
    >>> normalised("e\u0301") == "\u00e9"
    True
    """
    visible = "".join(
        character for character in caption if character.isspace() or unicodedata.category(character) not in _INVISIBLE
    )
    # Last, because characters that stood apart may now combine.
    return " ".join(unicodedata.normalize("NFC", visible).split())
