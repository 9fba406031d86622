"""Opens PDF files, renders their pages, and reads the text that they carry."""

from __future__ import annotations

import ctypes
import math
import mmap
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.boxes import Box
from pathoflow.data.image_io import UnreadableImage

_TAIL_BYTES = 2048
# PDFium keeps the fonts and streams of the pages it has seen: a document is opened anew after so many of them.
_PAGES_PER_OPENING = 50
# Coordinates come back as whole numbers: they are asked for at this many times the wanted size.
_FINENESS = 64
_UPRIGHT_RADIANS = 0.1
_PRIVATE_USE = range(0xE000, 0xF900)
_REPLACEMENT = 0xFFFD
_LINE_BREAKS = frozenset({0x0A, 0x0D})
_SOFT_HYPHENS = frozenset({0x02, 0xAD, 0xFFFE})


class Glyph(NamedTuple):
    """A printed character of a PDF page's text.

    Attributes:
        text: The character; empty where the file does not tell which one it is.
        box: The room that its font gives it, in pixels of the page rendered at the size that was asked for.
        spaced: Whether white space stands before it.
    """

    text: str
    box: Box
    spaced: bool


class _Opened:
    """Keeps the document that this process opened last: a page of the same book is most likely to follow."""

    def __init__(self) -> None:
        self.key: tuple[Path, int, int] | None = None
        self.document: pypdfium2.PdfDocument | None = None
        self.num_pages_read = 0

    def get(self, path: Path) -> pypdfium2.PdfDocument:
        """Returns the document in a file, opened at most once.

        Raises:
            UnreadableImage: The file is no PDF, or it is encrypted or truncated.
        """
        state = path.stat()
        key = (path, state.st_size, state.st_mtime_ns)
        if self.document is None or self.key != key or self.num_pages_read >= _PAGES_PER_OPENING:
            self.close()
            self.document, self.key, self.num_pages_read = open_pdf(path), key, 0
        self.num_pages_read += 1
        return self.document

    def close(self) -> None:
        """Closes the document and frees its memory."""
        if self.document is not None:
            self.document.close()
        self.document = self.key = None


_opened: Final = _Opened()


def open_pdf(path: Path) -> pypdfium2.PdfDocument:
    """Opens the document in a file; the caller closes it.

    Raises:
        UnreadableImage: The file is no PDF, or it is encrypted or truncated.
    """
    with path.open("rb") as file:
        head = file.read(1024)
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        tail = file.read()
    if not head:
        raise UnreadableImage("empty_file", "0 bytes")
    if b"%PDF-" not in head:
        raise UnreadableImage("not_a_pdf", "the file does not begin like a PDF")
    if b"%%EOF" not in tail:
        # The renderer would mend such a file and show whatever pages are left of it.
        raise UnreadableImage("truncated_pdf", "the end-of-file mark is missing: fetch or copy the file again")
    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise _opening_error(path) from error


def _opening_error(path: Path) -> UnreadableImage:
    """Returns why PDFium does not open a file: its own last error may be that of a file before."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"/Encrypt") >= 0:
            return UnreadableImage("encrypted_pdf", "a password is needed: save the file without one")
        if re.search(rb"/Count\s+0\b", content) and not re.search(rb"/Count\s+[1-9]", content):
            return UnreadableImage("empty_pdf", "the PDF has no pages")
    return UnreadableImage("corrupt_pdf", "PDFium finds no document in it: fetch or copy the file again")


def count_pdf_pages(path: Path) -> int:
    """Counts the pages of a PDF.

    Raises:
        UnreadableImage: The file is no PDF, is encrypted, truncated or without pages.
    """
    with open_pdf(path) as document:
        if len(document) == 0:
            raise UnreadableImage("empty_pdf", "the PDF has no pages")
        return len(document)


def render_pdf(
    path: Path, index: int, scale_of: Callable[[float, float], float], max_source_pixels: int
) -> NDArray[np.uint8]:
    """Renders a page in RGB.

    Args:
        path: The PDF.
        index: The page, from 0.
        scale_of: Pixels per point for a page of that width and height in points, as it is shown.
        max_source_pixels: Largest image on the page.

    Raises:
        UnreadableImage: The page is broken, or holds too large an image.
    """
    with _page(path, index) as page:
        scale = scale_of(*page.get_size())
        for picture in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE]):
            columns, rows = picture.get_px_size()
            if columns * rows > max_source_pixels:
                raise UnreadableImage("image_too_large", f"an image of {columns} x {rows} px on the page")
        # Three bytes a pixel, as long as neither grey nor transparent ones are asked for.
        return np.ascontiguousarray(page.render(scale=scale, rev_byteorder=True).to_numpy())


def read_glyphs(path: Path, index: int, width: int, height: int) -> list[Glyph]:
    """Reads the upright characters of a page's text, in the file's order, for a rendering of that size.

    Raises:
        UnreadableImage: The page cannot be read.
    """
    with _page(path, index) as page:
        text = page.get_textpage()
        try:
            return list(_glyphs(page, text, width, height))
        finally:
            text.close()


@contextmanager
def _page(path: Path, index: int) -> Iterator[pypdfium2.PdfPage]:
    try:
        page = _opened.get(path)[index]
        try:
            yield page
        finally:
            page.close()
    except pypdfium2.PdfiumError as error:
        raise UnreadableImage("corrupt_page", str(error)) from error


def _glyphs(page: pypdfium2.PdfPage, text: pypdfium2.PdfTextPage, width: int, height: int) -> Iterator[Glyph]:
    to_pixels = _to_pixels(page, width, height)
    # Angles are clockwise and in the page's own coordinates, which a page may ask to be shown turned by a quarter.
    shown_turned = math.radians(page.get_rotation())
    spaced = False
    for at in range(text.count_chars()):
        code = pdfium.FPDFText_GetUnicode(text, at)
        if code in _LINE_BREAKS:
            # Guessed, and wrong around ligatures: where characters stand tells it.
            continue
        if code in _SOFT_HYPHENS:
            code = ord("-")
        if chr(code).isspace():
            spaced = True
            continue
        turned = (pdfium.FPDFText_GetCharAngle(text, at) + shown_turned + math.pi) % (2 * math.pi) - math.pi
        if pdfium.FPDFText_IsGenerated(text, at) == 1 or abs(turned) > _UPRIGHT_RADIANS:
            continue
        x0, y0, x1, y1 = text.get_charbox(at, loose=True)
        unknown = code in _PRIVATE_USE or code in (0, _REPLACEMENT) or pdfium.FPDFText_HasUnicodeMapError(text, at) == 1
        yield Glyph("" if unknown else chr(code), to_pixels(x0, y0, x1, y1), spaced)
        spaced = False


def _to_pixels(page: pypdfium2.PdfPage, width: int, height: int) -> Callable[[float, float, float, float], Box]:
    """Returns a map from page coordinates to pixels of its rendering, with rotation and crop box applied."""
    across, down = ctypes.c_int(), ctypes.c_int()

    def pixel(x: float, y: float) -> tuple[float, float]:
        sides = (0, 0, width * _FINENESS, height * _FINENESS)
        pdfium.FPDF_PageToDevice(page, *sides, 0, x, y, across, down)
        return across.value / _FINENESS, down.value / _FINENESS

    # The map is affine: three points far apart tell it.
    far = 1000.0
    x_origin, y_origin = pixel(0, 0)
    (x_right, y_right), (x_up, y_up) = pixel(far, 0), pixel(0, far)
    ax, ay = (x_right - x_origin) / far, (y_right - y_origin) / far
    bx, by = (x_up - x_origin) / far, (y_up - y_origin) / far

    def convert(x0: float, y0: float, x1: float, y1: float) -> Box:
        left, right = sorted((x_origin + ax * x0 + bx * y0, x_origin + ax * x1 + bx * y1))
        top, bottom = sorted((y_origin + ay * x0 + by * y0, y_origin + ay * x1 + by * y1))
        return Box(left, top, right, bottom)

    return convert
