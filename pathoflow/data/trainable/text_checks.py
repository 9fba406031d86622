"""Checks whether a text can be learned or asked."""

from __future__ import annotations

import re

Fault = tuple[str, str]
"""A reason to count by, and what was found."""

# Every special token of Qwen2.5's tokenizer and of CLIP's is written so, a few of them outside of images and turns.
_SPECIAL = re.compile(r"<\|[a-z_]+\|>")


def text_fault(text: str) -> Fault | None:
    """Returns why a text cannot be learned: a special token in it would end a turn or stand for an image.

    >>> text_fault("a <|image_pad|> in a caption")
    ('special_token', 'the text holds <|image_pad|>')
    """
    found = _SPECIAL.search(text)
    return ("special_token", f"the text holds {found[0]}") if found else None
