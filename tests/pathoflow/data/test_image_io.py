from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pathoflow.data.image_io import (
    UnreadableImage,
    decode,
    encode_jpeg,
    encode_png,
    image_columns,
    language_of,
    phash,
    read,
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels and holds none."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 9) + b"IDAT"


def reason_for(data: bytes, max_pixels: int = 1_000_000) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(data, max_pixels=max_pixels)
    return caught.value.reason


def test_unusable_bytes_give_their_reason() -> None:
    noise = Image.effect_noise((200, 200), 60)
    png, jpeg = encoded(noise, "PNG"), encoded(noise, "JPEG")
    assert reason_for(b"") == "empty_file"
    assert reason_for(b"%PDF-1.4 and so on") == "not_an_image"
    assert reason_for(png[: len(png) // 2]) == "corrupt_image"
    assert reason_for(jpeg[: len(jpeg) // 2]) == "corrupt_image"
    assert reason_for(png[:300] + bytes(200) + png[500:]) == "corrupt_image"


@pytest.mark.parametrize(("width", "height"), [(1001, 1000), (9_500, 9_500), (30_000, 30_000)])
def test_size_is_refused_before_any_pixel_is_decoded(width: int, height: int) -> None:
    assert reason_for(png_header(width, height)) == "image_too_large"


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for prefix in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0", b"BM", b"RIFF1234WEBP"):
        with pytest.raises(UnreadableImage):
            decode(prefix + data, max_pixels=10_000)


def test_orientation_transparency_and_depth_are_resolved() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif), max_pixels=800).size == (20, 40)
    clear = decode(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"), max_pixels=16)
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.linspace(1000, 60_000, 256, dtype=np.uint16).reshape(16, 16))
    levels = np.asarray(decode(encoded(deep, "TIFF"), max_pixels=256))
    assert (levels.min(), levels.max()) == (0, 255)
    assert len(np.unique(levels)) > 200


def test_files_are_read_by_frame_and_missing_ones_reported(tmp_path: Path) -> None:
    path = tmp_path / "scan.tiff"
    Image.new("RGB", (8, 8), "red").save(path, save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert read(path, max_pixels=64, frame=1)[1].getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(UnreadableImage, match="missing_file"):
        read(tmp_path / "none.png", max_pixels=64)
    with pytest.raises(UnreadableImage, match="file_too_large"):
        read(path, max_pixels=64, max_bytes=10)


def test_encoding_depends_on_the_pixels_alone() -> None:
    plain = Image.effect_noise((50, 50), 60).convert("RGB")
    tagged = plain.copy()
    tagged.info.update(comment=b"made elsewhere", dpi=(300, 300))
    assert encode_jpeg(plain) == encode_jpeg(tagged)
    assert encode_png(plain) == encode_png(tagged)
    assert decode(encode_png(plain), max_pixels=2500).tobytes() == plain.tobytes()


def test_the_perceptual_hash_survives_scaling_and_tells_pictures_apart() -> None:
    def distance(a: str, b: str) -> int:
        return (int(a, 16) ^ int(b, 16)).bit_count()

    pictures = [Image.effect_noise((8, 8), 90 + seed).resize((300, 300), Image.Resampling.BICUBIC) for seed in (0, 1)]
    smaller = decode(encode_jpeg(pictures[0].resize((140, 140)), 80), max_pixels=20_000)
    assert distance(phash(pictures[0]), phash(smaller)) <= 4
    assert distance(phash(pictures[0]), phash(pictures[1])) > 8


def test_columns_describe_the_stored_bytes() -> None:
    image = Image.new("RGB", (30, 20))
    columns = image_columns(encode_png(image), image, "a.png")
    assert (columns["width"], columns["height"]) == (30, 20)
    assert columns["image"]["path"] == "a.png"
    assert len(columns["image_sha256"]) == 64


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("纤维腺瘤(fibroadenoma)，HE染色", "zh"),
        ("Fibroadenoma of the breast, 纤维", "en"),
        ("×100", "en"),
        ("圖", "zh"),
    ],
)
def test_language_goes_by_script(text: str, language: str) -> None:
    assert language_of(text) == language
