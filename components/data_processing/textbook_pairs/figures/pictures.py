"""Finds pictures on a page, and rejects those that are no figures (QR codes, tables, charts, logos)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.figures.graphics import classify_graphic, flat_share
from components.data_processing.textbook_pairs.figures.panels import xy_cut
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.pixels import Mask, Pixels, connected_components

# Opening with a square of this side wipes out text, which is no taller, and leaves pictures.
_TEXT_HEIGHT_PX = 22
_PAPER_RANGE = 8
_DARKEST_LEVEL = 150
_MIN_PAPER = 0.25
_MIN_GUTTERS = 0.03
_SHADING_REACH_PX = 4
_DARKEST_PAPER = 0.5
_SAME_PICTURE = 0.2
_MAX_TABLE_INK = 0.6
# A region of the layout model is believed if it is sure, or if pictures fill it; not if it holds text.
_SURE_REGION = 0.45
_SURE_TEXT = 0.5
_TEXT_KINDS = frozenset({"text", "title", "header", "footer", "reference", "figure_caption", "table_caption"})
# The pieces of a drawing are larger than letters, and no farther apart than this share of their smaller side.
_MIN_PIECE_PX = 33
_NEAR_PIECES = 0.8
_MAX_PIECES_IN_TEXT = 0.3
_MIN_FILLED_REGION = 0.6
_MAX_TEXT_IN_REGION = 0.12
_SAME_ATOM_PX = 5
_EDGE_PX = 3
_MIN_FILLED_BOX = 0.5
_SHADOW_FLAT = 0.5
_SHADOW_ASPECT = 5.0


class Picture(NamedTuple):
    """A box that may hold a figure, or the reason why it does not."""

    box: Box
    rejected: str = ""


def find_ink(page: Pixels) -> Mask:
    """Finds the pixels of a page that are not paper.

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
    channels = [cv2.divide(channel.astype(np.float32), shading) for channel in cv2.split(smooth)]
    # Every fourth row and column tells the paper's colour and scatter as well.
    is_paper = np.abs(grey[::4, ::4] - level) <= _PAPER_RANGE
    papers = [channel[::4, ::4][is_paper] for channel in channels]
    colour = [np.median(paper) for paper in papers]
    apart = [np.abs(paper - middle) for paper, middle in zip(papers, colour, strict=True)]
    scatter = 1.48 * float(np.median(np.concatenate(apart)))
    tolerance = min(max(4.0 * scatter + 5.0, 8.0), 40.0)
    far = [cv2.absdiff(channel, float(middle)) for channel, middle in zip(channels, colour, strict=True)]
    return np.asarray(cv2.max(cv2.max(far[0], far[1]), far[2]) > tolerance)


def _paper_level(grey: NDArray[np.float32]) -> tuple[int, float]:
    """Returns the grey level of the paper, and the fraction of the page that has it (0 if no paper shows).

    Paper is the most frequent bright level. On a page that is all picture (a scanned plate) it is the brightest
    level that is not rare: that of the bands between the panels.
    """
    levels = grey.clip(0, 255).astype(np.uint8)
    counts = cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel() / grey.size
    counts[:_DARKEST_LEVEL] = 0
    near = np.convolve(counts, np.ones(2 * _PAPER_RANGE + 1), mode="same")
    level = int(near.argmax())
    # Pale grounds of pictures are within that range of white paper, but the paper itself is of one level.
    below = max(level - _PAPER_RANGE, 0)
    level = below + int(counts[below : level + _PAPER_RANGE + 1].argmax())
    brightest = np.flatnonzero(near >= _MIN_GUTTERS)
    if near[level] < _MIN_PAPER and brightest.size:
        below = max(int(brightest[-1]) - 2 * _PAPER_RANGE, 0)
        level = below + int(counts[below:].argmax())
    return level, float(near[level])


def _shading(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimates the brightness of the paper at each pixel, 1 where it is brightest.

    Every column and every row of a page shows paper somewhere, in a margin if nowhere else: its brightest pixels
    tell how much light falls there.
    """
    shading = np.ones_like(grey)
    for axis in (0, 1):
        # Every fourth pixel along a line tells its brightest as well.
        part = (slice(None, None, 4), slice(None)) if axis == 0 else (slice(None), slice(None, None, 4))
        light = np.percentile(grey[part] / shading[part], 92, axis=axis, keepdims=True)
        light = np.clip(light / light.max(), _DARKEST_PAPER, 1.0).astype(np.float32)
        size = 2 * _SHADING_REACH_PX + 1
        shading *= cv2.blur(light, (size, 1) if axis == 0 else (1, size), borderType=cv2.BORDER_REPLICATE)
    return shading


def may_hold_pictures(ink: Mask, min_figure_px: int) -> bool:
    """Checks whether a page may hold a picture, that is anything thick or drawn, before layout analysis."""
    height, width = ink.shape
    return bool(find_blobs(ink)) or _has_strokes(ink, Box(0, 0, width, height), min_figure_px)


def find_pictures(page: Pixels, ink: Mask, regions: Sequence[Region], min_figure_px: int) -> list[Picture]:
    """Finds boxes that may hold figures or panels, and those that were rejected, from top to bottom.

    Blobs of ink too thick for text are pictures. The layout model adds what has no thick ink (charts, drawings) and
    holds together what belongs to one drawing; where a region of it holds body text it is wrong.
    """
    blobs = _merge_boxes(find_blobs(ink), _SAME_ATOM_PX)
    pictures: list[Picture] = []

    def add_picture(box: Box, held: Sequence[Box]) -> None:
        """Adds a box as one picture with the blobs that it holds, unless one of them is a photograph.

        Blobs are more exact than the box around them.
        """
        nonlocal blobs
        if not any(_is_photograph(page, ink, blob, regions, min_figure_px) for blob in held):
            whole = union([box, *held]).clipped(page.shape[1], page.shape[0])
            pictures.append(_trim_picture(page, ink, whole, regions, min_figure_px))
            blobs = [blob for blob in blobs if blob not in held]

    for box in trusted_figures(regions, blobs):
        held = [blob for blob in blobs if blob.covered_by(box) >= 0.5]
        if not held and any(region.kind == "figure_caption" and region.box.iou(box) >= 0.5 for region in regions):
            # The model took a caption for a figure, too.
            continue
        if not held and not _has_strokes(ink, box, min_figure_px):
            # On an empty part of a dusty page the model sees figures.
            continue
        add_picture(box, held)
    photographs = [blob for blob in blobs if _is_photograph(page, ink, blob, regions, min_figure_px)]
    known = [*photographs, *(picture.box for picture in pictures)]
    for box in find_drawings(ink, regions, known, min_figure_px):
        add_picture(box, [blob for blob in blobs if blob.covered_by(box) >= 0.5])
    pictures += [
        _trim_picture(page, ink, blob, regions, min_figure_px)
        for blob in blobs
        if max(blob.width, blob.height) >= min_figure_px
        and not any(blob.covered_by(picture.box) > 0.8 for picture in pictures)
    ]
    pictures += [
        Picture(region.box, "table")
        for region in regions
        if region.kind == "table"
        and region.confidence >= _SURE_REGION
        and not any(
            picture.box.iou(region.box) > 0.2 or picture.box.covered_by(region.box) > 0.5 for picture in pictures
        )
    ]
    return sorted(set(pictures), key=lambda picture: (picture.box.y0, picture.box.x0))


def _is_photograph(page: Pixels, ink: Mask, blob: Box, regions: Sequence[Region], min_figure_px: int) -> bool:
    return not _trim_picture(page, ink, blob, regions, min_figure_px).rejected


def _has_strokes(ink: Mask, box: Box, min_length_px: int) -> bool:
    """Checks whether a box holds a connected stroke of at least that length: dust and words are shorter."""
    page_height, page_width = ink.shape
    x0, y0, x1, y1 = box.clipped(page_width, page_height).pixel_bounds()
    _, stats = connected_components(ink[y0:y1, x0:x1])
    return any(
        max(width, height) >= min_length_px
        and height > _TEXT_HEIGHT_PX
        # A page that was turned upright has streaks along its edges.
        and not _touches_page_edge(Box(x, y, x + width, y + height).shifted(x0, y0), page_width, page_height)
        for x, y, width, height, _ in stats[1:].tolist()
    )


def trusted_figures(regions: Sequence[Region], blobs: Sequence[Box]) -> list[Box]:
    """Returns the layout model's figures that hold no body text and are sure or filled, without repeats."""
    text = [r.box for r in regions if r.kind in ("text", "title", "header", "footer") and r.confidence >= _SURE_TEXT]
    boxes: list[Box] = []
    for region in sorted(regions, key=lambda region: (-region.confidence, region.box)):
        box = region.box
        if region.kind != "figure" or not box.area:
            continue
        in_text = sum(part.intersection(box).area for part in text if part.covered_by(box) > 0)
        filled = sum(blob.area for blob in blobs if blob.covered_by(box) >= 0.5) / box.area
        if in_text > _MAX_TEXT_IN_REGION * box.area or (
            region.confidence < _SURE_REGION and filled < _MIN_FILLED_REGION
        ):
            continue
        if all(max(box.covered_by(other), other.covered_by(box)) < 0.5 for other in boxes):
            boxes.append(box)
    return boxes


def find_drawings(ink: Mask, regions: Sequence[Region], known: Sequence[Box], min_figure_px: int) -> list[Box]:
    """Finds boxes around drawings made of pieces larger than letters, such as axes and the boxes of a diagram.

    Args:
        ink: Where the page is not paper.
        regions: The layout model's regions; frames around text are no drawings.
        known: Pictures found before.
        min_figure_px: Least width and height of a drawing.
    """
    _, stats = connected_components(ink)
    pieces = [
        box
        for box in (Box(x, y, x + width, y + height) for x, y, width, height, _ in stats[1:].tolist())
        if min(box.width, box.height) > _TEXT_HEIGHT_PX
        and max(box.width, box.height) > _MIN_PIECE_PX
        and not _touches_page_edge(box, ink.shape[1], ink.shape[0])
        and not any(max(box.covered_by(other), other.covered_by(box)) > _SAME_PICTURE for other in known)
    ]
    # What is full of such pieces holds no text, whatever the model says.
    text = [
        r.box
        for r in regions
        if r.kind in _TEXT_KINDS
        and r.confidence >= _SURE_REGION
        and sum(box.area for box in pieces if box.covered_by(r.box) > 0.5) < _MAX_PIECES_IN_TEXT * r.box.area
    ]
    pieces = [box for box in pieces if not any(max(box.covered_by(t), t.covered_by(box)) > _SAME_PICTURE for t in text)]
    groups: list[list[Box]] = []
    for piece in sorted(pieces, key=lambda box: (-box.area, box)):
        near = piece.expanded(_NEAR_PIECES * min(piece.width, piece.height))
        joined = [group for group in groups if any(near.covered_by(other) > 0 for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append([piece, *(other for group in joined for other in group)])
    boxes = sorted(union(group) for group in groups)
    return [
        box
        for box in boxes
        if min(box.width, box.height) >= min_figure_px and not any(other.covered_by(box) > 0 for other in text)
    ]


def _touches_page_edge(box: Box, width: int, height: int) -> bool:
    """Checks whether a box reaches the edge of the page, as the shadow of its spine does."""
    return min(box.x0, box.y0, width - box.x1, height - box.y1) <= _EDGE_PX


def find_blobs(ink: Mask) -> list[Box]:
    """Finds boxes around areas of ink too thick to be text."""
    solid = cv2.morphologyEx(ink.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    opened = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((_TEXT_HEIGHT_PX, _TEXT_HEIGHT_PX), np.uint8))
    _, stats = connected_components(opened)
    blobs = []
    for x, y, width, height, area in stats[1:].tolist():
        box = Box(x, y, x + width, y + height)
        # The shadow of a spine and the rim of a crooked scan run along the page: their boxes hold what they are not.
        if area >= _MIN_FILLED_BOX * box.area or not _touches_page_edge(box, ink.shape[1], ink.shape[0]):
            blobs.append(box)
    return blobs


def _merge_boxes(boxes: Sequence[Box], near_px: float = 0.0) -> list[Box]:
    """Merges boxes that overlap far or nearly touch a small one: those are parts of one picture."""
    joined: list[Box] = []
    for box in boxes:
        parts = [other for other in joined if _is_part(box, other, near_px)]
        joined = [other for other in joined if other not in parts]
        joined.append(union([box, *parts]))
    return joined if len(joined) == len(boxes) else _merge_boxes(joined, near_px)


def _is_part(a: Box, b: Box, near_px: float) -> bool:
    smaller, larger = sorted((a, b), key=lambda box: box.area)
    return smaller.covered_by(larger) > _SAME_PICTURE or smaller.covered_by(larger.expanded(near_px)) > 0.9


def _trim_picture(page: Pixels, ink: Mask, box: Box, regions: Sequence[Region], min_figure_px: int) -> Picture:
    """Trims a box of paper and lines of text at its edges, and returns it as a picture or as rejected."""
    if min(box.width, box.height) < min_figure_px:
        return Picture(box, "too_small")
    x0, y0, x1, y1 = box.pixel_bounds()
    thick = [part for part in xy_cut(ink[y0:y1, x0:x1]) if min(part.width, part.height) > _TEXT_HEIGHT_PX]
    trimmed = union(thick).shifted(x0, y0) if thick else box
    if trimmed.area < 0.5 * box.area:
        # Thin lines around little: the whole of it tells what it is.
        reason = _rejection_reason(page, ink, box, regions, min_figure_px)
        if reason:
            return Picture(box, reason)
    reason = _rejection_reason(page, ink, trimmed, regions, min_figure_px)
    return Picture(trimmed, reason or ("" if thick else "line_art"))


def _rejection_reason(page: Pixels, ink: Mask, box: Box, regions: Sequence[Region], min_figure_px: int) -> str:
    x0, y0, x1, y1 = box.pixel_bounds()
    if min(box.width, box.height) < min_figure_px:
        return "too_small"
    if any(region.kind in ("header", "footer") and box.covered_by(region.box) > 0.7 for region in regions):
        return "header_or_footer"
    oblong = max(box.width, box.height) > _SHADOW_ASPECT * min(box.width, box.height)
    if _touches_page_edge(box, page.shape[1], page.shape[0]) and (
        oblong or flat_share(page[y0:y1, x0:x1], ink[y0:y1, x0:x1]) > _SHADOW_FLAT
    ):
        return "page_edge"
    reason = classify_graphic(page[y0:y1, x0:x1], ink[y0:y1, x0:x1], page.shape[1])
    # The layout model takes panels that touch for the cells of a table.
    tabular = any(region.kind == "table" and box.covered_by(region.box) > 0.7 for region in regions)
    if reason != "qr_code" and tabular and float(ink[y0:y1, x0:x1].mean()) < _MAX_TABLE_INK:
        return "table"
    return reason
