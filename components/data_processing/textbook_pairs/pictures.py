"""Pictures on a page: where figures may be, and which of them are no figures (QR codes, tables, charts, logos)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.layout import Region
from components.data_processing.textbook_pairs.pages import Pixels
from components.data_processing.textbook_pairs.panels import Mask, xy_cut

# Opening with a square of this side wipes out text, which is no taller, and leaves pictures.
_TEXT_HEIGHT_PX = 22
_PAPER_RANGE = 8
_DARKEST_LEVEL = 150
_MIN_PAPER = 0.25
_MIN_GUTTERS = 0.03
_SHADING_REACH_PX = 4
_DARKEST_PAPER = 0.5
_SAME_PICTURE = 0.2
# Charts and drawings are paper for the most part, tables too.
_MIN_PICTURE_INK = 0.28
_MAX_TABLE_INK = 0.6
_MAX_CODE_SATURATION = 60
_MIN_CODE_EXTREME = 0.6
_MIN_CODE_CHANGES = 8


class Picture(NamedTuple):
    """A box that may hold a figure, and the reason why it does not (empty for one that may)."""

    box: Box
    rejected: str = ""


def find_ink(page: Pixels) -> Mask:
    """Where a page is not paper.

    The paper's colour, its shading and how much it scatters are measured on the page itself, so that a picture
    with a pale background stands out on a clean page, and neither noise nor the shadow of a book's spine does.
    """
    smooth = cv2.medianBlur(page, 3)
    grey = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY).astype(np.float32)
    shading = np.ones_like(grey)
    if _paper_level(grey)[1] >= _MIN_PAPER:
        shading = _shading(grey)
    grey /= shading
    level, share = _paper_level(grey)
    if share == 0:
        return np.ones(grey.shape, dtype=bool)
    # One colour at a time: sums and medians over interleaved pixels take twice as long.
    channels = [channel / shading for channel in cv2.split(smooth)]
    is_paper = np.abs(grey - level) <= _PAPER_RANGE
    papers = [channel[is_paper] for channel in channels]
    colour = [np.median(paper) for paper in papers]
    apart = [np.abs(paper - middle) for paper, middle in zip(papers, colour, strict=True)]
    scatter = 1.48 * float(np.median(np.concatenate(apart)))
    tolerance = min(max(4.0 * scatter + 5.0, 8.0), 40.0)
    far = [np.abs(channel - middle) for channel, middle in zip(channels, colour, strict=True)]
    return np.asarray(np.maximum(np.maximum(far[0], far[1]), far[2]) > tolerance)


def _paper_level(grey: NDArray[np.float32]) -> tuple[int, float]:
    """The grey level of the paper, and the share of the page that has it (0 where no paper shows).

    Paper is the most frequent bright level. On a page that is all picture (a scanned plate) it is the brightest
    level that is not rare: that of the bands between the panels.
    """
    counts = np.bincount(grey.clip(0, 255).astype(np.uint8).ravel(), minlength=256) / grey.size
    counts[:_DARKEST_LEVEL] = 0
    near = np.convolve(counts, np.ones(2 * _PAPER_RANGE + 1), mode="same")
    level = int(near.argmax())
    brightest = np.flatnonzero(near >= _MIN_GUTTERS)
    if near[level] < _MIN_PAPER and brightest.size:
        below = max(int(brightest[-1]) - 2 * _PAPER_RANGE, 0)
        level = below + int(counts[below:].argmax())
    return level, float(near[level])


def _shading(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """How bright the paper is at each pixel, 1 where it is brightest.

    Every column and every row of a page shows paper somewhere, in a margin if nowhere else: its brightest pixels
    tell how much light falls there.
    """
    shading = np.ones_like(grey)
    for axis in (0, 1):
        light = np.percentile(grey / shading, 92, axis=axis, keepdims=True)
        light = np.clip(light / light.max(), _DARKEST_PAPER, 1.0).astype(np.float32)
        size = 2 * _SHADING_REACH_PX + 1
        shading *= cv2.blur(light, (size, 1) if axis == 0 else (1, size), borderType=cv2.BORDER_REPLICATE)
    return shading


def find_pictures(page: Pixels, ink: Mask, regions: Sequence[Region], min_figure_px: int) -> list[Picture]:
    """The boxes that may hold figures, and those that were looked at and rejected, from top to bottom.

    The layout model's figures come first; a filled blob of ink that it missed is a picture too.
    """
    blobs = find_blobs(ink)
    boxes = _joined([region.box for region in regions if region.kind == "figure"])
    boxes = [union([box, *(blob for blob in blobs if blob.share_in(box) >= 0.5)]) for box in boxes]
    boxes += [
        blob
        for blob in blobs
        if min(blob.width, blob.height) >= min_figure_px and all(blob.share_in(box) < 0.5 for box in boxes)
    ]
    pictures = [
        _judged(page, ink, box.clipped(page.shape[1], page.shape[0]), regions, min_figure_px) for box in _joined(boxes)
    ]
    return sorted(pictures, key=lambda picture: (picture.box.y0, picture.box.x0))


def find_blobs(ink: Mask) -> list[Box]:
    """Boxes around areas of ink too thick to be text."""
    solid = cv2.morphologyEx(ink.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    opened = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((_TEXT_HEIGHT_PX, _TEXT_HEIGHT_PX), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(opened)
    return [Box(x, y, x + width, y + height) for x, y, width, height, _ in stats[1:].tolist()]


def _joined(boxes: Sequence[Box]) -> list[Box]:
    """Boxes none of which reaches far into another: those that do are parts of one picture."""
    joined: list[Box] = []
    for box in boxes:
        parts = [other for other in joined if max(box.share_in(other), other.share_in(box)) > _SAME_PICTURE]
        joined = [other for other in joined if other not in parts]
        joined.append(union([box, *parts]))
    return joined if len(joined) == len(boxes) else _joined(joined)


def _judged(page: Pixels, ink: Mask, box: Box, regions: Sequence[Region], min_figure_px: int) -> Picture:
    """The picture in a box, without the paper and the lines of text at its edges, or why it is none."""
    if min(box.width, box.height) < min_figure_px:
        return Picture(box, "too_small")
    x0, y0, x1, y1 = box.whole()
    thick = [part for part in xy_cut(ink[y0:y1, x0:x1]) if min(part.width, part.height) > _TEXT_HEIGHT_PX]
    if not thick:
        return Picture(box, "line_art")
    box = union(thick).moved(x0, y0)
    return Picture(box, _why_rejected(page, ink, box, regions, min_figure_px))


def _why_rejected(page: Pixels, ink: Mask, box: Box, regions: Sequence[Region], min_figure_px: int) -> str:
    x0, y0, x1, y1 = box.whole()
    filled = float(ink[y0:y1, x0:x1].mean())
    if min(box.width, box.height) < min_figure_px:
        return "too_small"
    if any(region.kind in ("header", "footer") and box.share_in(region.box) > 0.7 for region in regions):
        return "header_or_footer"
    if is_code(page[y0:y1, x0:x1]):
        return "qr_code"
    # The layout model takes panels that touch for the cells of a table.
    if filled < _MAX_TABLE_INK and any(region.kind == "table" and box.share_in(region.box) > 0.7 for region in regions):
        return "table"
    return "line_art" if filled < _MIN_PICTURE_INK else ""


def is_code(pixels: Pixels) -> bool:
    """Whether a picture is a QR code or bar code: without colour, black or white, and often changing."""
    saturation = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    if float(np.percentile(saturation, 90)) > _MAX_CODE_SATURATION:
        return False
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    _, dark = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    if not 0.2 < float(dark.mean()) < 0.7 or _changes_per_100_px(dark) < _MIN_CODE_CHANGES:
        return False
    middle = (grey[dark == 1].mean() + grey[dark == 0].mean()) / 2
    return float((np.abs(grey - middle) > 50).mean()) > _MIN_CODE_EXTREME


def _changes_per_100_px(dark: NDArray[np.uint8]) -> float:
    """How often a line across the picture passes from dark to light or back."""
    across = np.abs(np.diff(dark.astype(np.int8), axis=1)).mean()
    down = np.abs(np.diff(dark.astype(np.int8), axis=0)).mean()
    return 100.0 * float(min(across, down))
