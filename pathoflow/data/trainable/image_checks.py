"""Checks whether an image can be fed to the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from pathoflow.data.image_io import UnreadableImage, decode, probe
from pathoflow.data.trainable.text_checks import Fault

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""The largest image that is decoded for a model, 178,956,970 pixels: Pillow refuses larger ones."""

MAX_ASPECT = 200
"""Largest ratio of an image's longer side to its shorter one.

Source: transformers' `smart_resize` of Qwen2-VL, which raises above it. CLIP has no such limit, but scales the short
side to its own: a line of pixels would fill the memory.
"""


def image_fault(
    image: Mapping[str, Any] | None,
    size: tuple[int | None, int | None] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    whole: bool = False,
) -> Fault | None:
    """Returns why an embedded image cannot be used; None if it can.

    Args:
        image: `bytes` and `path` of an image, as the schemas embed it.
        size: Width and height in the row, if any: a sample's cost is computed from them.
        max_pixels: Larger images are not decoded.
        whole: Decode it, instead of reading only its header and its end.

    >>> image_fault({"bytes": b"text", "path": "a.jpg"})
    ('not_an_image', 'a.jpg: 4 bytes that are none of JPEG, PNG, TIFF, WEBP, BMP, GIF')
    """
    data = (image or {}).get("bytes") or b""
    name = (image or {}).get("path") or "image"
    try:
        found = decode(data, max_pixels=max_pixels).size if whole else probe(data, max_pixels=max_pixels)
    except UnreadableImage as error:
        return error.reason, f"{name}: {error.detail}"
    if fault := aspect_fault(*found):
        return fault[0], f"{name}: {fault[1]}"
    if size not in (None, found):
        return "wrong_size", f"{name}: {found[0]} x {found[1]} px, where the row says {size[0]} x {size[1]}"
    return None


def aspect_fault(width: int, height: int) -> Fault | None:
    """Returns a fault if an image is too long and thin for the models.

    >>> aspect_fault(200, 1), aspect_fault(4000, 10)
    (None, ('extreme_aspect', '4000 x 10 px, one side more than 200 times the other'))
    """
    if max(width, height) > MAX_ASPECT * min(width, height):
        return "extreme_aspect", f"{width} x {height} px, one side more than {MAX_ASPECT} times the other"
    return None
