"""Panel labels printed on or beside a panel: A, a, (A), A., dark on light or light on dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.captions import fold, label_name
from components.data_processing.textbook_pairs.pages import Pixels

_LABEL = re.compile(r"^\W{0,2}([A-Za-z1-9]|(?:[①-⑨]))\W{0,2}$")
_GLYPH_HEIGHT_PX = (9, 64)
_GLYPH_RIM_PX = 12
_MIN_CONFIDENCE = 0.5
_MAX_READINGS = 8
_DARK, _LIGHT = 90, 205
_OUTSIDE_WIDTH_PX, _OUTSIDE_HEIGHT_PX = 200, 76

Read = Callable[[Pixels], tuple[str, float]]


def parse_label(text: str) -> str:
    """The letter of a panel label in capitals, or its figure; empty for any other text.

    >>> [parse_label(text) for text in ("A", "(b)", "C.", "（Ｄ）", "AB", "100")]
    ['A', 'B', 'C', 'D', '', '']
    """
    match = _LABEL.match(fold(text).strip())
    return label_name(match[1]) if match else ""


def read_label(figure: Pixels, panel: Box, wanted: Sequence[str], read: Read) -> str:
    """The label in a corner of a panel, if one of `wanted` stands there; else empty.

    Args:
        figure: The figure's fine pixels.
        panel: The panel in those pixels.
        wanted: Labels that the caption names.
        read: Reads one line of text and returns it with its confidence.
    """
    for places in (_corners(panel), _outside(panel)):
        glyphs = [found for place in places for found in _glyphs(_cut_out(figure, place))]
        for _, _, glyph in sorted(glyphs, key=lambda found: found[:2])[:_MAX_READINGS]:
            text, confidence = read(glyph)
            label = parse_label(text)
            if label in wanted and confidence >= _MIN_CONFIDENCE:
                return label
    return ""


def assign_labels(read: Sequence[str], labels: Sequence[str], by_columns: Sequence[int]) -> list[str]:
    """The label of each panel, in the panels' order (rows first).

    What was read decides where it is complete. Otherwise labels run along the rows, or down the columns if more
    of what was read says so: one letter read wrongly must not shift the others.

    Args:
        read: What was read in each panel, empty where nothing was.
        labels: The labels of the caption, in order, as many as panels.
        by_columns: Each panel's place in reading order by columns.

    >>> assign_labels(["A", "C", "D", "B"], "ABCD", [0, 2, 1, 3])
    ['A', 'C', 'D', 'B']
    >>> assign_labels(["", "C", "", ""], "ABCD", [0, 2, 1, 3])
    ['A', 'C', 'B', 'D']
    >>> assign_labels(["", "A", ""], "ABC", [0, 1, 2])
    ['A', 'B', 'C']
    """
    if sorted(read) == sorted(labels):
        return list(read)
    along_rows, down_columns = list(labels), [labels[place] for place in by_columns]

    def agreement(names: Sequence[str]) -> int:
        return sum(name == seen for name, seen in zip(names, read, strict=True))

    return max(along_rows, down_columns, key=agreement)


def _corners(panel: Box) -> Iterator[Box]:
    side = 0.22 * min(panel.width, panel.height) + 16
    for x in (panel.x0, panel.x1 - side):
        for y in (panel.y0, panel.y1 - side):
            yield Box(x, y, x + side, y + side)


def _outside(panel: Box) -> Iterator[Box]:
    """The strips in the middle below and above a panel, where some books print its label."""
    x, _ = panel.centre
    reach = min(_OUTSIDE_WIDTH_PX, panel.width) / 2
    yield Box(x - reach, panel.y1 + 2, x + reach, panel.y1 + _OUTSIDE_HEIGHT_PX)
    yield Box(x - reach, panel.y0 - _OUTSIDE_HEIGHT_PX, x + reach, panel.y0 - 2)


def _cut_out(figure: Pixels, box: Box) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = box.clipped(figure.shape[1], figure.shape[0]).whole()
    if x1 <= x0 or y1 <= y0:
        return np.zeros((0, 0), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(figure[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY))


def _glyphs(grey: NDArray[np.uint8]) -> Iterator[tuple[float, tuple[int, int], Pixels]]:
    """Shapes in a corner that may be a letter, black on white, with their distance from the corner's rim."""
    low, high = _GLYPH_HEIGHT_PX
    height, width = grey.shape
    if not grey.size:
        return
    for mask in (grey < _DARK, grey > _LIGHT):
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        for number, (x, y, w, h, area) in enumerate(stats.tolist()):
            inside = min(x, y, width - x - w, height - y - h) > 0
            if number == 0 or not inside or not low <= h <= high or not 0.15 * h <= w <= 1.3 * h:
                continue
            if not 0.15 <= area / (w * h) <= 0.85:
                continue
            shape = np.where(parts[y : y + h, x : x + w] == number, 0, 255).astype(np.uint8)
            padded = np.pad(shape, [[_GLYPH_RIM_PX] * 2, [2 * _GLYPH_RIM_PX] * 2], constant_values=255)
            rim = min(x, width - x - w) + min(y, height - y - h)
            yield float(rim), (x, y), np.repeat(padded[..., None], 3, axis=2)
