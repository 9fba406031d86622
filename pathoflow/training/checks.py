"""Which rows a training stage sets aside before it starts its processes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

# Every special token of Qwen2.5's tokenizer is written so, a few of them outside of images and turns.
_SPECIAL = re.compile(r"<\|[a-z_]+\|>")

# What a whole file ends with, and a few bytes that some programs leave behind it.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_END_BYTES = 16

Fault = tuple[str, str]
"""A reason to count by, and what was found."""


def image_fault(image: Mapping[str, Any] | None) -> Fault | None:
    """What is wrong with an embedded image as far as its header and its end tell; None if nothing is.

    Decoding millions of images would take hours. Only those that seem to be cut short are decoded, to make sure.

    >>> image_fault({"bytes": b"text", "path": "a.jpg"})
    ('unreadable_image', 'a.jpg: 4 bytes that are no image')
    """
    data = (image or {}).get("bytes") or b""
    name = (image or {}).get("path") or "image"
    what = "no image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                what = f"a broken {opened.format}"
                end = _ENDS.get(opened.format or "")
                if end is None or end not in data[-_END_BYTES:]:
                    opened.load()
    except Exception:
        # Pillow's formats raise whatever they stumble over.
        return "unreadable_image", f"{name}: {len(data)} bytes that are {what}"
    return None


def text_fault(text: str) -> Fault | None:
    """What keeps a text from being learned: a special token in it would end a turn or stand for an image.

    >>> text_fault("a <|image_pad|> in a caption")
    ('special_token', 'the text holds <|image_pad|>')
    """
    found = _SPECIAL.search(text)
    return ("special_token", f"the text holds {found[0]}") if found else None


def conversation_fault(messages: Sequence[Any], images: Sequence[Mapping[str, Any]]) -> Fault | None:
    """What keeps a conversation from being learned; None if nothing does.

    >>> conversation_fault([{"role": "user", "content": [{"type": "text", "text": "Describe."}]}], [])
    ('no_response', 'the last turn is not a response')
    """
    if not messages or messages[-1]["role"] != "assistant" or not _text(messages[-1]).strip():
        return "no_response", "the last turn is not a response"
    places = sum(part["type"] == "image" for message in messages for part in message["content"])
    if places != len(images):
        return "image_count", f"{places} places for {len(images)} images"
    faults = (*(text_fault(_text(message)) for message in messages), *(image_fault(image) for image in images))
    return next((fault for fault in faults if fault), None)


def _text(message: Mapping[str, Any]) -> str:
    return "".join(part["text"] or "" for part in message["content"])
