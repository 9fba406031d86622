"""Odd images and rows: what real data sets hold now and then, and what becomes of each."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from pathoflow.contract.output import QUARANTINE_FILE, StageOutput
from pathoflow.data.image_io import encode_jpeg, encode_png, probe
from tests.support.pairs import picture

_TURNED_RIGHT = 6


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image file of a kind that Pillow knows."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = _TURNED_RIGHT
    return encoded(picture(5).crop((0, 0, 56, 28)), "JPEG", exif=exif)


def _with_alpha() -> Image.Image:
    image = Image.new("RGBA", (28, 28), (255, 0, 0, 0))
    image.paste((0, 0, 255, 128), (0, 0, 14, 28))
    return image


def _with_transparent_colour() -> bytes:
    image = picture(6, 28).quantize(8)
    return encoded(image, "PNG", transparency=0)


def _deep() -> Image.Image:
    return Image.fromarray(np.linspace(0, 60_000, 28 * 28, dtype=np.uint16).reshape(28, 28))


SOUND: dict[str, bytes] = {
    "one_pixel": encode_png(Image.new("RGB", (1, 1), "red")),
    "two_by_three": encode_png(picture(1).resize((2, 3))),
    "a_line": encode_png(picture(2).resize((200, 1))),
    "turned": _turned(),
    "alpha": encoded(_with_alpha(), "PNG"),
    "palette": encoded(picture(3, 28).quantize(8), "PNG"),
    "transparent_colour": _with_transparent_colour(),
    "cmyk": encoded(picture(4, 28).convert("CMYK"), "JPEG"),
    "deep_png": encoded(_deep(), "PNG"),
    "deep_tiff": encoded(_deep(), "TIFF"),
    "webp": encoded(picture(7, 28), "WEBP"),
    "animated": encoded(picture(8, 28), "GIF", save_all=True, append_images=[picture(9, 28)]),
}
"""Images that every stage takes, by what is odd about them."""

_SPECKLED = encode_png(picture(1, 128))
BROKEN_WITHIN = _SPECKLED[:3000] + bytes(2000) + _SPECKLED[5000:]
"""An image whose header and end are sound."""

BROKEN: dict[str, tuple[bytes | None, str]] = {
    "null": (None, "empty_file"),
    "empty": (b"", "empty_file"),
    "text": (b"no image", "not_an_image"),
    "foreign": (encoded(picture(1, 28), "PPM"), "not_an_image"),
    "cut": (encode_jpeg(picture(1))[:-200], "corrupt_image"),
    "huge": (encoded(Image.new("1", (20_000, 9_000)), "PNG"), "image_too_large"),
    "long": (encode_jpeg(Image.new("RGB", (4000, 10))), "extreme_aspect"),
    "thin": (encode_png(Image.new("RGB", (1, 201))), "extreme_aspect"),
}
"""Images that no stage takes, with the reason."""


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a sound image as data sets give them."""
    return probe(data, max_pixels=10**9)


def embedded(data: bytes | None, name: str) -> dict[str, Any]:
    """An image as the schemas embed it."""
    return {"bytes": data, "path": f"{name}.img"}


def set_aside(out: StageOutput) -> Mapping[str, str]:
    """The reason of each item in a stage's quarantine."""
    items = [json.loads(line) for line in (out.path / QUARANTINE_FILE).read_text().splitlines()]
    reasons = {item["item"]: item["reason"] for item in items}
    assert len(reasons) == len(items) == sum(out.quarantined.values()), "each is told once"
    return reasons
