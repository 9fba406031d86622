"""Renders pages of PDFs and page images upright, at the two sizes that the stage works with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from PIL import Image

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.pages.dust import remove_dust
from components.data_processing.textbook_pairs.pages.listing import PDF_SUFFIX
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.pages.pdfs import render_pdf
from components.data_processing.textbook_pairs.pages.shadows import remove_shadows
from components.data_processing.textbook_pairs.pages.skew import estimate_skew, rotate, rotation_matrix
from components.data_processing.textbook_pairs.pixels import Pixels
from pathoflow.data.image_io import UnreadableImage, read

SIDE_UNIT_PX = 28
_MAX_ASPECT = 8.0


@dataclass(frozen=True)
class Rendering:
    """A page turned upright.

    Attributes:
        coarse: The page at the size at which boxes are given.
        source: The page as it came, `crop_scale` times as large per side.
        skew_degrees: How far the page was turned counter-clockwise to stand upright.
        is_clean: Whether the page is known to have neither shadows nor dust.
    """

    coarse: Pixels
    source: Pixels
    skew_degrees: float
    is_clean: bool = False

    @cached_property
    def fine(self) -> Pixels:
        """The upright page, `crop_scale` times as large per side; rendered when a first crop needs it."""
        return rotate(self.source, self.skew_degrees) if self.skew_degrees else self.source

    @cached_property
    def cleaned(self) -> Pixels:
        """`coarse` without shadows and dust, on which to find things; crops keep what the page shows."""
        return self.coarse if self.is_clean else remove_dust(remove_shadows(self.coarse))

    @property
    def scale(self) -> int:
        """Pixels of `fine` per pixel of `coarse`."""
        return int(self.source.shape[1] // self.coarse.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of `coarse`."""
        return self.coarse.shape[1], self.coarse.shape[0]

    def crop(self, box: Box) -> Pixels:
        """Returns the fine pixels of a box given in coarse pixels."""
        width, height = self.size
        x0, y0, x1, y1 = box.clipped(width, height).scaled(self.scale).pixel_bounds()
        return self.fine[y0:y1, x0:x1]

    def to_page(self, box: Box) -> Box:
        """Maps a box of the upright page to a box around the same area of the page as scanned."""
        return self._rotate_box(box, -self.skew_degrees)

    def to_upright(self, box: Box) -> Box:
        """Maps a box of the page as scanned to a box around the same area of the upright page."""
        return self._rotate_box(box, self.skew_degrees)

    def _rotate_box(self, box: Box, degrees: float) -> Box:
        if not degrees:
            return box
        width, height = self.size
        corners = np.array([[box.x0, box.y0, 1], [box.x1, box.y0, 1], [box.x0, box.y1, 1], [box.x1, box.y1, 1]])
        points = (corners @ rotation_matrix(width, height, degrees).T).tolist()
        return union(Box(x, y, x, y) for x, y in points).clipped(width, height)


def render(
    page: Page,
    *,
    layout_pixels: int,
    crop_scale: int,
    max_source_pixels: int,
    skew_degrees: float | None = None,
    is_clean: bool = False,
) -> Rendering:
    """Renders a page at both sizes and turns it upright.

    Args:
        page: The page.
        layout_pixels: Largest area of the coarse rendering.
        crop_scale: How many times as large per side the fine one is.
        max_source_pixels: Largest image that is decoded.
        skew_degrees: How far to turn the page, where that is known.
        is_clean: Whether it is known that the page has neither shadows nor dust.

    Raises:
        UnreadableImage: The page cannot be read, or is too large or too narrow.
    """
    if page.path.suffix.lower() == PDF_SUFFIX:
        source = _render_pdf(page, layout_pixels, crop_scale, max_source_pixels)
    else:
        _, image = read(page.path, max_pixels=max_source_pixels, frame=page.index)
        source = _resize(np.asarray(image), layout_pixels, crop_scale)
    coarse = _downscale(source, crop_scale)
    if skew_degrees is None:
        skew_degrees = estimate_skew(cv2.cvtColor(coarse, cv2.COLOR_RGB2GRAY))
    if skew_degrees:
        coarse = rotate(coarse, skew_degrees)
    return Rendering(coarse, source, skew_degrees, is_clean)


def layout_size(width: float, height: float, max_pixels: int) -> tuple[int, int]:
    """Returns the size at which layout is analysed: sides multiples of 28 px, area at most `max_pixels`.

    Source: the resizing of Qwen2-VL images, with which the authors' page curation renders.

    >>> layout_size(1680, 2352, 1280 * 28**2)
    (840, 1176)
    """
    scale = math.sqrt(max_pixels / (width * height))
    # A page that fits exactly must not lose a row to rounding.
    sides = (int(side * scale / SIDE_UNIT_PX + 1e-6) * SIDE_UNIT_PX for side in (width, height))
    coarse_width, coarse_height = (max(side, SIDE_UNIT_PX) for side in sides)
    return coarse_width, coarse_height


def _render_pdf(page: Page, layout_pixels: int, crop_scale: int, max_source_pixels: int) -> Pixels:
    def scale_of(width: float, height: float) -> float:
        coarse_width, coarse_height = _checked_size(width, height, layout_pixels)
        return crop_scale * max(coarse_width / width, coarse_height / height)

    return _resize(render_pdf(page.path, page.index, scale_of, max_source_pixels), layout_pixels, crop_scale)


def _resize(pixels: Pixels, layout_pixels: int, crop_scale: int) -> Pixels:
    width, height = _checked_size(pixels.shape[1], pixels.shape[0], layout_pixels)
    size = (width * crop_scale, height * crop_scale)
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def _checked_size(width: float, height: float, layout_pixels: int) -> tuple[int, int]:
    if min(width, height) < 1 or max(width, height) > _MAX_ASPECT * min(width, height):
        raise UnreadableImage("not_a_page", f"{width:.0f} x {height:.0f} is no shape of a page")
    return layout_size(width, height, layout_pixels)


def _downscale(pixels: Pixels, factor: int) -> Pixels:
    height, width = pixels.shape[:2]
    size = (width // factor, height // factor)
    # The mean of whole blocks of pixels, as Pillow's `reduce` has it, in a sixth of its time.
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)) if factor > 1 else pixels
