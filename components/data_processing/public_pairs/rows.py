"""One record of a public data set, whatever its format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A record that may make a pair.

    Attributes:
        item: The record as its user would name it: file, line or number, image.
        source: The pair's source.
        source_id: The pair's source_id, before pairs of one image are told apart; what stands before the first `#`
            names the group (slide, article, video) whose pairs belong into one split.
        caption: As it stands in the data set.
        image: The image's name in the store, or the slide's.
        position: The patch's upper left corner in the slide at level 0, in pixels; None for whole images.
    """

    item: str
    source: str
    source_id: str
    caption: str
    image: str
    position: tuple[int, int] | None = None

    @property
    def group(self) -> str:
        """The part of the source_id that belongs into one split.

        >>> Row("", "pathgen", "TCGA-1#0-672", "", "").group
        'TCGA-1'
        """
        return self.source_id.partition("#")[0]


@dataclass(frozen=True)
class BadRow:
    """A record that makes no pair, with the reason for its quarantine."""

    item: str
    reason: str
    detail: str


def to_line(row: Row | BadRow) -> str:
    """Returns a row as a line of JSON."""
    return json.dumps(vars(row)) + "\n"


def from_line(line: str) -> Row | BadRow:
    r"""Parses the row that `to_line` wrote.

    >>> row = Row("a:1", "s", "x#1-2", "é\ud800", "x", (1, 2))
    >>> from_line(to_line(row)) == row
    True
    """
    cells: dict[str, Any] = json.loads(line)
    if "reason" in cells:
        return BadRow(**cells)
    position = cells.pop("position")
    return Row(**cells, position=tuple(position) if position else None)


def grouped_source_id(group: str, name: str) -> str:
    """Returns a source_id whose pairs are kept together by `group`.

    Slashes would let the group end too early, and another `#` in the group too.

    >>> grouped_source_id("PMC12", "fig#1"), grouped_source_id("a/b#c", "x"), grouped_source_id("", "lone")
    ('PMC12#fig#1', 'a_b_c#x', 'lone')
    """
    return f"{group.replace('/', '_').replace('#', '_')}#{name}" if group else name


def hash_bucket(name: str, num_buckets: int) -> int:
    """Hashes a name to one of `num_buckets` buckets, numbered from 0."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="backslashreplace")).digest()[:8], "big") % num_buckets


def printable(text: str) -> str:
    r"""Returns text that any file can hold: bytes that were no text are escaped.

    >>> printable("caf\udce9")
    'caf\\udce9'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def check_caption(caption: object, max_chars: int) -> tuple[str, str] | None:
    r"""Returns reason and detail if a caption cannot be used.

    >>> check_caption("  ", 10), check_caption("Lipoma", 10)
    (('empty_caption', 'the record has no caption'), None)
    >>> check_caption("x\0", 10)[0], check_caption("\udce9", 10)[0], check_caption(7, 10)[0]
    ('control_character', 'not_utf8', 'not_text')
    """
    if caption is None:
        return "empty_caption", "the record has no caption"
    if not isinstance(caption, str):
        return "not_text", f"the caption is a {type(caption).__name__}"
    if not caption.strip():
        return "empty_caption", "the record has no caption"
    if len(caption) > max_chars:
        return "caption_too_long", f"{len(caption)} characters, at most {max_chars} are read"
    return check_text(caption)


def check_text(text: str) -> tuple[str, str] | None:
    """Returns reason and detail if a text holds something else."""
    if "\0" in text:
        return "control_character", f"a NUL character in {printable(text)[:80]!r}"
    if not _is_text([text]):
        return (
            "not_utf8",
            f"bytes that are no UTF-8 in {printable(text)[:80]!r}; if the file has another encoding, set it",
        )
    return None


def _is_text(texts: Iterable[str]) -> bool:
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True
