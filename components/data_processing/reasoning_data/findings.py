"""Finds what a caption says besides its diagnosis."""

from __future__ import annotations

import re

from pathoflow.data.lexicon import Lexicon

# Where one finding ends and the next begins: punctuation before a space or the end (not the point of "0.5"),
# Chinese punctuation, and the "and" before the last.
_BOUNDARY = re.compile(r"[.,;:](?=\s|$)|[，。；：、]|\s+and\s+")
# Words that tie a diagnosis to its findings and mean nothing once it is cut out.
_LEADING = re.compile(r"^(?:(?:with|showing|shows|of|from|consistent with)\b|示|显示|见|的)\s*", re.IGNORECASE)
_TRAILING = re.compile(r"\s*(?:\b(?:with|showing|shows|of|from|consistent with)|示|显示|见|的)$", re.IGNORECASE)


def findings_of(caption: str, lexicon: Lexicon) -> list[str]:
    """Returns the findings that a caption lists, in its order, without the diagnosis that it names.

    Args:
        caption: A caption.
        lexicon: Finds the diagnosis in it.
    """
    pieces = (piece for part in lexicon.around(caption) for piece in _BOUNDARY.split(part))
    return [trimmed for piece in pieces if (trimmed := _trimmed(piece))]


def _trimmed(piece: str) -> str:
    """Strips a finding of the words at its ends that tied it to the diagnosis.

    >>> _trimmed(" with small round glands "), _trimmed("H&E section of ")
    ('small round glands', 'H&E section')
    """
    return _TRAILING.sub("", _LEADING.sub("", piece.strip())).strip()
