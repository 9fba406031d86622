"""Pages of PDFs and page images, rendered upright at the two sizes that the stage works with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import cv2
import numpy as np
import pypdfium2
from numpy.typing import NDArray
from PIL import Image

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.listing import PDF_SUFFIX
from pathoflow.images import UnreadableImage, read

P = TypeVar("P", np.uint8, np.float32)
Pixels = NDArray[np.uint8]
"""An RGB picture `[H, W, 3]`."""

SIDE_UNIT_PX = 28
_MAX_ASPECT = 8.0
_MAX_SKEW_DEGREES = 3.0


@dataclass(frozen=True)
class Page:
    """Where a page is found.

    Attributes:
        path: The file.
        index: The page in the file, from 0.
        name: The file's stem, made unique among the files read.
        book: Pages of one book are neighbours: the pages of a PDF, or the images of one folder.
        label: The file as its user knows it.
    """

    path: Path
    index: int
    name: str
    book: str
    label: str

    @property
    def number(self) -> int:
        """The page in its file, from 1."""
        return self.index + 1

    @property
    def item(self) -> str:
        """The page as its user would name it."""
        paged = self.path.suffix.lower() == PDF_SUFFIX or self.index > 0
        return f"{self.label} page {self.number}" if paged else self.label


@dataclass(frozen=True)
class Rendering:
    """A page turned upright.

    Attributes:
        coarse: The page at the size at which boxes are given.
        fine: The page `crop_scale` times as large per side.
        skew_degrees: How far the page was turned counter-clockwise to stand upright.
    """

    coarse: Pixels
    fine: Pixels
    skew_degrees: float

    @property
    def scale(self) -> int:
        """Pixels of `fine` per pixel of `coarse`."""
        return int(self.fine.shape[1] // self.coarse.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of `coarse`."""
        return self.coarse.shape[1], self.coarse.shape[0]

    def crop(self, box: Box) -> Pixels:
        """The fine pixels of a box given in coarse pixels."""
        width, height = self.size
        x0, y0, x1, y1 = box.clipped(width, height).scaled(self.scale).whole()
        return self.fine[y0:y1, x0:x1]

    def on_page(self, box: Box) -> Box:
        """A box of the upright page as a box around the same area of the page as it came."""
        if not self.skew_degrees:
            return box
        width, height = self.size
        back = _rotation(width, height, -self.skew_degrees)
        corners = np.array([[box.x0, box.y0, 1], [box.x1, box.y0, 1], [box.x0, box.y1, 1], [box.x1, box.y1, 1]])
        points = (corners @ back.T).tolist()
        return union(Box(x, y, x, y) for x, y in points).clipped(width, height)


def count_pages(path: Path) -> int:
    """How many pages a file holds.

    Raises:
        UnreadableImage: The file is no PDF, is encrypted, truncated or without pages.
    """
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        return _count_frames(path)
    if suffix != PDF_SUFFIX:
        return 1
    with _open_pdf(path) as document:
        if len(document) == 0:
            raise UnreadableImage("empty_pdf", "the PDF has no pages")
        return len(document)


def render(
    page: Page, *, layout_pixels: int, crop_scale: int, max_source_pixels: int, turn_upright: bool = True
) -> Rendering:
    """Renders a page at both sizes and turns it upright.

    Raises:
        UnreadableImage: The page cannot be read, or is too large or too narrow.
    """
    if page.path.suffix.lower() == PDF_SUFFIX:
        fine = _render_pdf(page, layout_pixels, crop_scale, max_source_pixels)
    else:
        _, image = read(page.path, max_pixels=max_source_pixels, frame=page.index)
        fine = _resized(image, layout_pixels, crop_scale)
    coarse = _reduced(fine, crop_scale)
    degrees = estimate_skew(cv2.cvtColor(coarse, cv2.COLOR_RGB2GRAY)) if turn_upright else 0.0
    if degrees:
        fine = _turned(fine, degrees)
        coarse = _reduced(fine, crop_scale)
    return Rendering(coarse, fine, degrees)


def layout_size(width: float, height: float, max_pixels: int) -> tuple[int, int]:
    """The size at which a page's layout is read: sides multiples of 28 px, area at most `max_pixels`.

    Source: the resizing of Qwen2-VL images, with which the authors' page curation renders.

    >>> layout_size(1680, 2352, 1280 * 28**2)
    (840, 1176)
    """
    scale = math.sqrt(max_pixels / (width * height))
    # A page that fits exactly must not lose a row to rounding.
    sides = (int(side * scale / SIDE_UNIT_PX + 1e-6) * SIDE_UNIT_PX for side in (width, height))
    coarse_width, coarse_height = (max(side, SIDE_UNIT_PX) for side in sides)
    return coarse_width, coarse_height


def estimate_skew(grey: NDArray[np.uint8]) -> float:
    """The turn, in degrees counter-clockwise, that makes lines of text horizontal; 0 for an upright page.

    Turned by the right angle, rows of the page are either dark or empty: the sum of squared differences between
    neighbouring rows is largest.
    """
    small = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    dark = (small < cv2.blur(small, (31, 31)).astype(np.int16) - 15).astype(np.float32)

    def sharpness(degrees: float) -> float:
        return float(np.square(np.diff(_turned(dark, degrees, border=0.0).sum(axis=1))).sum())

    best = 0.0
    for reach, step in ((_MAX_SKEW_DEGREES, 0.5), (0.4, 0.1)):
        steps = round(reach / step)
        best = max((best + step * number for number in range(-steps, steps + 1)), key=sharpness)
    if abs(best) < 0.15 or abs(best) >= _MAX_SKEW_DEGREES or sharpness(best) < 1.05 * sharpness(0.0):
        return 0.0
    return round(best, 1)


def _count_frames(path: Path) -> int:
    """The pages of a scanned TIFF; 1 for a damaged one, whose reading will give the reason."""
    try:
        with Image.open(path, formats=["TIFF"]) as image:
            num_frames: int = getattr(image, "n_frames", 1)
            return num_frames
    except Exception:
        return 1


def _open_pdf(path: Path) -> pypdfium2.PdfDocument:
    with path.open("rb") as file:
        head = file.read(1024)
        file.seek(max(path.stat().st_size - 2048, 0))
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
        if "password" in str(error).lower():
            raise UnreadableImage("encrypted_pdf", "a password is needed: save the file without one") from error
        raise UnreadableImage("corrupt_pdf", str(error)) from error


def _render_pdf(page: Page, layout_pixels: int, crop_scale: int, max_source_pixels: int) -> Pixels:
    with _open_pdf(page.path) as document:
        try:
            sheet = document[page.index]
            width, height = sheet.get_size()
            coarse_width, coarse_height = _checked_size(width, height, layout_pixels)
            for picture in sheet.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]):
                columns, rows = picture.get_px_size()
                if columns * rows > max_source_pixels:
                    raise UnreadableImage("image_too_large", f"an image of {columns} x {rows} px on the page")
            scale = crop_scale * max(coarse_width / width, coarse_height / height)
            image = sheet.render(scale=scale).to_pil().convert("RGB")
        except pypdfium2.PdfiumError as error:
            raise UnreadableImage("corrupt_page", str(error)) from error
    return _resized(image, layout_pixels, crop_scale)


def _resized(image: Image.Image, layout_pixels: int, crop_scale: int) -> Pixels:
    width, height = _checked_size(image.width, image.height, layout_pixels)
    size = (width * crop_scale, height * crop_scale)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image)


def _checked_size(width: float, height: float, layout_pixels: int) -> tuple[int, int]:
    if min(width, height) < 1 or max(width, height) > _MAX_ASPECT * min(width, height):
        raise UnreadableImage("not_a_page", f"{width:.0f} x {height:.0f} is no shape of a page")
    return layout_size(width, height, layout_pixels)


def _reduced(pixels: Pixels, factor: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).reduce(factor)) if factor > 1 else pixels


def _turned(pixels: NDArray[P], degrees: float, border: float | None = None) -> NDArray[P]:
    """The picture turned counter-clockwise; its edge is repeated outside unless `border` is given."""
    height, width = pixels.shape[:2]
    turned = cv2.warpAffine(
        pixels,
        _rotation(width, height, degrees),
        (width, height),
        flags=cv2.INTER_CUBIC if border is None else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT,
        borderValue=border or 0.0,
    )
    return cast("NDArray[P]", turned)


def _rotation(width: int, height: int, degrees: float) -> NDArray[np.float64]:
    return np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0))
