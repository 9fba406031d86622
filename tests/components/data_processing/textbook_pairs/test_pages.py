from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.listing import book_files
from components.data_processing.textbook_pairs.pages import (
    Page,
    Rendering,
    count_pages,
    layout_size,
    render,
)
from components.data_processing.textbook_pairs.skew import estimate_skew
from pathoflow.errors import InputError
from pathoflow.images import UnreadableImage

SIZES = {"layout_pixels": 1280 * 28**2, "crop_scale": 2, "max_source_pixels": 10_000_000}


def page_of(path: Path, index: int = 0) -> Page:
    return Page(path, index, path.stem, "book", path.name)


def read_all(path: Path) -> list[Rendering]:
    return [render(page_of(path, index), **SIZES) for index in range(count_pages(path))]


def locked_pdf() -> bytes:
    """A PDF whose password is not the empty one."""
    secret = "<" + "ab" * 32 + ">"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
        f"<< /Filter /Standard /V 1 /R 2 /O {secret} /U {secret} /P -4 >>",
    ]
    content, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size 5 /Root 1 0 R /Encrypt 4 0 R /ID [<00><00>] >>\nstartxref\n%d\n%%%%EOF\n"
    return content + b"xref\n0 5\n0000000000 65535 f \n" + table + trailer % len(content)


def bomb() -> bytes:
    """A PNG of 30 000 x 30 000 px in a hundred kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(30_000 * 3_751))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@given(st.floats(100, 5000), st.floats(100, 5000))
def test_the_layout_size_is_a_multiple_of_28_within_the_area(width: float, height: float) -> None:
    columns, rows = layout_size(width, height, 1280 * 28**2)
    assert columns % 28 == rows % 28 == 0
    assert columns * rows <= 1280 * 28**2 or min(columns, rows) == 28


def test_pages_of_a_pdf_and_of_a_tiff_are_counted_and_told_apart(tmp_path: Path) -> None:
    for name in ("book.pdf", "book.tiff"):
        path = tmp_path / name
        sheets = [Image.new("RGB", (420, 588), colour) for colour in ("red", "blue")]
        sheets[0].save(path, save_all=True, append_images=sheets[1:])
        assert count_pages(path) == 2
        rendering = render(page_of(path, 1), **SIZES)
        assert rendering.coarse.shape == (1176, 840, 3)
        assert rendering.fine.shape == (2352, 1680, 3)
        assert rendering.coarse[500, 400, 2] > 200 > rendering.coarse[500, 400, 0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.pdf", "truncated_pdf"),
        ("locked.pdf", "encrypted_pdf"),
        ("text.pdf", "not_a_pdf"),
        ("empty.pdf", "empty_file"),
        ("empty.png", "empty_file"),
        ("cut.jpg", "corrupt_image"),
        ("noise.png", "not_an_image"),
        ("bomb.png", "image_too_large"),
        ("ribbon.png", "not_a_page"),
    ],
)
def test_a_file_that_is_no_page_gives_its_reason(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    whole = Image.effect_noise((300, 400), 60)
    if name in ("truncated.pdf", "cut.jpg"):
        whole.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif name == "ribbon.png":
        Image.new("L", (3000, 20)).save(path)
    else:
        contents = {"locked.pdf": locked_pdf(), "text.pdf": b"Dear reader,\n" * 99, "bomb.png": bomb()}
        path.write_bytes(contents.get(name, b"\x00\x01" * 99 if name == "noise.png" else b""))
    with pytest.raises(UnreadableImage) as caught:
        read_all(path)
    assert caught.value.reason == reason


@pytest.mark.parametrize("degrees", [-2.0, -1.0, 0.0, 1.5])
def test_skew_is_found(plain_page: Image.Image, degrees: float) -> None:
    turned = plain_page.convert("L").reduce(2).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=250)
    assert estimate_skew(np.asarray(turned)) == pytest.approx(-degrees, abs=0.2)


def test_a_box_on_a_turned_page_is_given_where_it_was_before(tmp_path: Path, plain_page: Image.Image) -> None:
    sheet = plain_page.copy()
    sheet.paste((200, 30, 30), (300, 1500, 700, 1900))
    sheet.rotate(1.5, Image.Resampling.BICUBIC, fillcolor="white").save(tmp_path / "page.png")
    rendering = render(page_of(tmp_path / "page.png"), **SIZES)
    red = rendering.coarse[:, :, 1] < 100
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.sum(axis=0) > 50)
    upright = Box(float(columns[0]), float(rows[-1] - 199), float(columns[-1]), float(rows[-1]))
    as_found = Image.open(tmp_path / "page.png").convert("RGB").resize(rendering.size)
    found = np.asarray(as_found)[:, :, 1].astype(int) < 100
    truth_rows = np.flatnonzero(found[:, 150:350].sum(axis=1) > 20)
    box = rendering.on_page(upright)
    assert box.y1 == pytest.approx(float(truth_rows[-1]), abs=4)


def test_files_are_listed_in_page_order_and_hidden_ones_left_out(tmp_path: Path) -> None:
    for name in ("page_10.png", "page_9.png", ".DS_Store", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    config = TextbookPairsConfig(books=(tmp_path,))
    assert [path.name for path in config.external_files()] == ["notes.txt", "page_9.png", "page_10.png"]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_path_without_pages_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no page")
    with pytest.raises(InputError, match=name):
        book_files([tmp_path / name])
