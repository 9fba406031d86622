"""Reads images from untrusted files within limits, and encodes and describes them for the pair schema."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

Language = Literal["zh", "en"]

# Formats whose decoders live inside Pillow: none of them starts another program (as EPS does).
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
_HAN = re.compile(r"[㐀-䶿一-鿿豈-﫿]")
_LATIN_WORD = re.compile(r"[^\W\d_㐀-䶿一-鿿豈-﫿]+")

# What a whole file ends with, and a few bytes that some programs leave behind it.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_END_BYTES = 16
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
# What a PNG that says how it is to be turned holds somewhere, perhaps behind its pixels.
_PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


class UnreadableImage(ValueError):
    """Image that cannot be used; a stage quarantines it under `reason`.

    Attributes:
        reason: `missing_file`, `empty_file`, `file_too_large`, `not_an_image`, `image_too_large` or
            `corrupt_image`.
        detail: The exact finding.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def read(path: Path, *, max_pixels: int, max_bytes: int = 512 * 2**20, frame: int = 0) -> tuple[bytes, Image.Image]:
    """Reads an image file and returns its bytes and its upright RGB image.

    Args:
        path: The file.
        max_pixels: Largest image that is decoded.
        max_bytes: Largest file that is read.
        frame: Index of the picture in a file that holds several, from 0.

    Raises:
        UnreadableImage: The file is missing, too large, or not an image that `decode` accepts.
    """
    if not path.is_file():
        raise UnreadableImage("missing_file", f"{path} is not a file")
    num_bytes = path.stat().st_size
    if num_bytes > max_bytes:
        raise UnreadableImage("file_too_large", f"{num_bytes} bytes, at most {max_bytes} are read")
    data = path.read_bytes()
    return data, decode(data, max_pixels=max_pixels, frame=frame)


def decode(data: bytes, *, max_pixels: int, frame: int = 0) -> Image.Image:
    """Decodes one frame of an encoded image: upright by its EXIF orientation, RGB, transparency on white.

    The size in the header is checked before any pixel is decoded, so that a decompression bomb costs nothing.

    Raises:
        UnreadableImage: The bytes are empty, no image, larger than `max_pixels`, truncated or corrupt.

    >>> decode(encode_png(Image.new("RGB", (4, 3))), max_pixels=12).size
    (4, 3)
    >>> decode(encode_png(Image.new("RGB", (4, 3))), max_pixels=11)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    pathoflow.data.image_io.UnreadableImage: image_too_large: 4 x 3 px, at most 11 pixels are decoded
    """
    if not data:
        raise UnreadableImage("empty_file", "0 bytes")
    # Pillow warns of images above its own size limit and of odd metadata; what matters is checked here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(data, max_pixels, frame)


def probe(data: bytes, *, max_pixels: int) -> tuple[int, int]:
    """Returns the width and height that `decode` would give, from the file's header and end.

    Decoding millions of images takes hours. Only those that seem truncated are decoded, and those of rare formats,
    whose end shows nothing. Damage between a sound header and a sound end is not found.

    Raises:
        UnreadableImage: For the reasons of `decode`.

    >>> probe(encode_png(Image.new("RGB", (4, 3))), max_pixels=12)
    (4, 3)
    """
    if not data:
        raise UnreadableImage("empty_file", "0 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _opened(data, max_pixels)
        end = _ENDS.get(image.format or "")
        if end is None or end not in data[-_END_BYTES:]:
            return _decode(data, max_pixels, 0).size
        width, height = image.size
        return (height, width) if _is_turned(image, data) else (width, height)


def encode_jpeg(image: Image.Image, quality: int = 92) -> bytes:
    """Encodes an image as JPEG; the bytes depend on pixels and quality alone (no metadata)."""
    return _encode(image, "JPEG", quality=quality, subsampling=0)


def encode_png(image: Image.Image) -> bytes:
    """Encodes an image as PNG; the bytes depend on the pixels alone (no metadata)."""
    return _encode(image, "PNG")


def phash(image: Image.Image) -> str:
    """Returns an image's 64-bit perceptual hash as 16 hexadecimal digits: near-duplicates differ in few bits.

    >>> phash(Image.new("RGB", (50, 50), "white"))
    '8000000000000000'
    """
    # It imports SciPy, and most of those who decode images hash none.
    import imagehash

    return str(imagehash.phash(image))


def image_columns(data: bytes, image: Image.Image, path: str) -> dict[str, Any]:
    """Returns the columns of the pair schema that describe one image.

    Args:
        data: The encoded image as it is stored.
        image: The same image, decoded.
        path: A name for the image; data sets show it, nothing opens it.

    >>> sorted(image_columns(b"x", Image.new("RGB", (8, 8)), "a.png"))
    ['height', 'image', 'image_sha256', 'phash', 'width']
    """
    return {
        "image": {"bytes": data, "path": path},
        "width": image.width,
        "height": image.height,
        "image_sha256": hashlib.sha256(data).hexdigest(),
        "phash": phash(image),
    }


def language_of(text: str) -> Language:
    """Detects a caption's language by its script: Chinese if Han characters outnumber Latin words.

    >>> language_of("纤维腺瘤。HE ×200"), language_of("Fibroadenoma of the breast"), language_of("")
    ('zh', 'en', 'en')
    """
    return "zh" if len(_HAN.findall(text)) > len(_LATIN_WORD.findall(text)) else "en"


def _decode(data: bytes, max_pixels: int, frame: int) -> Image.Image:
    image = _opened(data, max_pixels, frame)
    # Decoders of damaged data raise whatever they stumble over (OSError, SyntaxError, struct.error, …).
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:
        width, height = image.size
        raise UnreadableImage("corrupt_image", f"{width} x {height} px {image.format}: {error}") from error


def _opened(data: bytes, max_pixels: int, frame: int = 0) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.seek(frame)
    except Image.DecompressionBombError as error:
        raise UnreadableImage("image_too_large", f"{error} At most {max_pixels} pixels are decoded") from error
    except Exception as error:
        detail = f"{len(data)} bytes that are none of {', '.join(_FORMATS)}"
        raise UnreadableImage("not_an_image", detail) from error
    width, height = image.size
    if width * height > max_pixels:
        detail = f"{width} x {height} px, at most {max_pixels} pixels are decoded"
        raise UnreadableImage("image_too_large", detail)
    return image


def _is_turned(image: Image.Image, data: bytes) -> bool:
    """Returns whether setting the image upright swaps its width and height."""
    # Pillow decodes a PNG to find its metadata.
    if image.format == "PNG" and not any(mark in data for mark in _PNG_METADATA):
        return False
    try:
        return image.getexif().get(_ORIENTATION) in _TURNED
    except Exception as error:
        width, height = image.size
        raise UnreadableImage("corrupt_image", f"{width} x {height} px {image.format}: {error}") from error


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    # A bare copy of the pixels: Pillow would write comments, profiles and EXIF of the source file back.
    bare = Image.frombytes(image.mode, image.size, image.tobytes())
    buffer = io.BytesIO()
    bare.save(buffer, kind, **options)
    return buffer.getvalue()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Stretches 16- or 32-bit grey levels from their own range to 0..255: Pillow would clip them to white."""
    levels = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = levels.min(), levels.max()
    scaled = (levels - low) * (255.0 / (high - low) if high > low else 0.0)
    return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")
