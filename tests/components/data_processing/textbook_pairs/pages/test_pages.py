from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bench.scans import write_scans
from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.pages import pdfs
from components.data_processing.textbook_pairs.pages.listing import book_files, find_copies
from components.data_processing.textbook_pairs.pages.page import Page, count_pages
from components.data_processing.textbook_pairs.pages.rendering import Rendering, layout_size, render
from components.data_processing.textbook_pairs.pages.skew import estimate_skew
from pathoflow.data.image_io import UnreadableImage
from pathoflow.errors import InputError

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


def pdf_of(*objects: str) -> bytes:
    """A PDF of numbered objects, the first of them its catalogue."""
    content, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(content))
    return content + head + table + trailer


def empty_pdf() -> bytes:
    return pdf_of("<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [] /Count 0 >>")


def pdf_bomb() -> bytes:
    """A PDF page with an image of 30 000 x 30 000 px in a hundred kilobytes."""
    rows = zlib.compress(bytes(30_000 * 3_750)).decode("latin-1")
    return pdf_of(
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        "/Resources << /XObject << /I 5 0 R >> >> >>",
        "<< /Length 22 >>\nstream\n595 0 0 842 0 0 cm /I Do\nendstream",
        "<< /Type /XObject /Subtype /Image /Width 30000 /Height 30000 /ColorSpace /DeviceGray /BitsPerComponent 1 "
        f"/Filter /FlateDecode /Length {len(rows)} >>\nstream\n{rows}\nendstream",
    )


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
        ("no_pages.pdf", "empty_pdf"),
        ("hollow.pdf", "corrupt_pdf"),
        ("bomb.pdf", "image_too_large"),
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
        contents |= {"no_pages.pdf": empty_pdf(), "bomb.pdf": pdf_bomb(), "hollow.pdf": b"%PDF-1.4\n%%EOF\n"}
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
    box = rendering.to_page(upright)
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


def drawn(mode: str) -> Image.Image:
    """A page, dark at its head and pale below, in one of the modes that scanners and programs write."""
    levels = np.full((588, 420), 230, dtype=np.uint8)
    levels[:200] = 30
    grey = Image.fromarray(levels)
    if mode == "I;16":
        return Image.fromarray(levels.astype(np.uint16) * 257)
    if mode == "RGBA":
        # Transparent where a page is white.
        shape = np.dstack([np.zeros_like(levels)] * 3 + [255 - levels])
        return Image.fromarray(shape)
    return grey.convert("RGB").convert(mode)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("page.jpg", "CMYK"),
        ("page.tiff", "CMYK"),
        ("page.png", "I;16"),
        ("page.tif", "I;16"),
        ("page.png", "RGBA"),
        ("page.png", "P"),
        ("page.gif", "P"),
        ("page.png", "1"),
        ("page.bmp", "RGB"),
        ("page.webp", "RGBA"),
    ],
)
def test_every_kind_of_image_gives_the_page_that_it_shows(tmp_path: Path, name: str, mode: str) -> None:
    drawn(mode).save(tmp_path / name)
    (rendering,) = read_all(tmp_path / name)
    assert rendering.coarse[100:300].mean() < 60
    assert rendering.coarse[500:1100].mean() > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photographed_page_is_turned_as_its_camera_was(tmp_path: Path, orientation: int) -> None:
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    page = drawn("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    (page.transpose(back[orientation]) if orientation > 1 else page).save(tmp_path / "page.jpg", exif=exif)
    (rendering,) = read_all(tmp_path / "page.jpg")
    assert rendering.size == (840, 1176)
    assert rendering.coarse[100:300].mean() < 60 < 200 < rendering.coarse[500:1100].mean()


@pytest.mark.parametrize("name", ["图谱 第1页.png", "a b;$(c)'\"%s.png", "x" * 240 + ".png", "été\n.png", ".png.PNG"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "book"
    folder.mkdir()
    drawn("L").save(folder / name.lstrip("."), format="PNG")
    (path,) = book_files([folder])
    assert len(read_all(path)) == 1


def test_a_book_of_3000_pages_is_opened_seldom_and_its_last_page_costs_no_more_than_its_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets = []
    for colour in ("red", "blue"):
        buffer = io.BytesIO()
        Image.new("RGB", (28, 40), colour).save(buffer, "JPEG")
        sheets.append(buffer.getvalue())
    path = tmp_path / "book.pdf"
    write_scans(path, (sheets[number % 2] for number in range(3000)))
    opened = []
    monkeypatch.setattr(pdfs, "open_pdf", lambda path, bare=pdfs.open_pdf: opened.append(path) or bare(path))
    assert count_pages(path) == 3000
    sizes = SIZES | {"layout_pixels": 100 * 28**2, "crop_scale": 1}
    times = []
    for first in (0, 2900):
        started = time.process_time()
        for index in range(first, first + 100):
            coarse = render(page_of(path, index), **sizes).coarse
            assert (coarse[100, 100, 2] > 200) == bool(index % 2)
        times.append(time.process_time() - started)
    assert len(opened) <= 6
    assert times[1] < 3 * times[0] + 0.2


def test_copies_are_found_by_their_bytes(tmp_path: Path) -> None:
    contents = {"a.pdf": b"one", "b.pdf": b"two", "c.pdf": b"one", "sub/a.png": b"one", "n.txt": b"one", "e.pdf": b""}
    (tmp_path / "sub").mkdir()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in contents]
    assert find_copies(files) == {tmp_path / "c.pdf": tmp_path / "a.pdf", tmp_path / "sub/a.png": tmp_path / "a.pdf"}


@pytest.mark.parametrize("degrees", [-3.0, -2.2, -0.5, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("damage", ["noise", "shadow", "both"])
def test_skew_is_found_under_noise_and_shadows(plain_page: Image.Image, degrees: float, damage: str) -> None:
    turned = plain_page.convert("L").reduce(2).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=250)
    levels = np.asarray(turned, dtype=np.float64)
    if damage != "noise":
        # The spine of an open book, and a hand's shadow across a corner.
        across = np.linspace(0, 1, levels.shape[1])
        down = np.linspace(0, 1, levels.shape[0])[:, None]
        levels = levels * (0.45 + 0.55 * np.clip(across / 0.3, 0, 1)) * np.where(across + down > 1.6, 0.7, 1.0)
    if damage != "shadow":
        levels = levels + np.random.default_rng(1).normal(0, 20, levels.shape)
    assert estimate_skew(levels.clip(0, 255).astype(np.uint8)) == pytest.approx(-degrees, abs=0.2)
