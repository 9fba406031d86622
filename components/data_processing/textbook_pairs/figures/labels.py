"""Reads panel labels printed on or beside a panel: A, a, (A), A., dark on light or light on dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.captions.parsing import canonical_label, fold
from components.data_processing.textbook_pairs.pixels import Pixels, connected_components

_LABEL = re.compile(r"^\W{0,2}([A-Za-z1-9]|(?:[①-⑨]))\W{0,2}$")
_GLYPH_HEIGHT_PX = (9, 64)
_GLYPH_RIM_PX = 12
_MIN_CONFIDENCE = 0.5
_SURE = 0.9
_MAX_GROUPS = 6
_MAX_READINGS = 4
_DARK, _LIGHT = (50, 90), (235, 205)
_CORNER_SHARE, _CORNER_PX, _MAX_CORNER_SHARE = 0.22, 96, 0.45
_OUTSIDE_WIDTH_PX, _OUTSIDE_HEIGHT_PX = 200, 76
# Glyphs at one place of their panels: how far their insets and heights may differ, in heights.
_SAME_INSET = 0.6
_SAME_HEIGHT = 1.6
_SAME_SHAPE = 0.8

Read = Callable[[Pixels], tuple[str, float]]


class _Glyph(NamedTuple):
    """A shape in a panel's corner, or under or over its middle, that may be a letter.

    Attributes:
        panel: The panel's place among all.
        place: The corner or strip, by its number.
        inset: How far it is from the panel's edges there, in fine pixels.
        height: Its height in fine pixels.
        shape: The shape alone, black on white.
    """

    panel: int
    place: int
    inset: tuple[float, float]
    height: int
    shape: Pixels


def parse_label(text: str) -> str:
    """Returns a panel label as a capital letter or digit; empty for any other text.

    >>> [parse_label(text) for text in ("A", "(b)", "C.", "（Ｄ）", "AB", "100")]
    ['A', 'B', 'C', 'D', '', '']
    """
    match = _LABEL.match(fold(text).strip())
    return canonical_label(match[1]) if match else ""


def read_labels(figure: Pixels, panels: Sequence[Box], wanted: Sequence[str], read: Read) -> list[str]:
    """Reads the label of each panel, if one of `wanted` stands on or beside it; else empty. None is given twice.

    The labels of a figure are of one size and stand at one place of their panels: shapes that do are read first, and
    what most of them make sense of decides. Only where that is none, each panel's own shapes do.

    Args:
        figure: The figure's fine pixels.
        panels: The panels in those pixels.
        wanted: Labels that the caption names.
        read: Reads one line of text and returns it with its confidence.
    """
    glyphs = [glyph for number, panel in enumerate(panels) for glyph in _find_glyphs(figure, number, panel)]
    best = [""] * len(panels)
    for group in _group_glyphs(glyphs)[:_MAX_GROUPS]:
        found = _read_glyphs(group, len(panels), wanted, read, _MIN_CONFIDENCE)
        if _num_named(found) > max(_num_named(best), 1):
            best = found
        if _num_named(best) == min(len(panels), len(wanted)):
            return best
    if any(best):
        return best
    found = _read_glyphs(list(_nearest_to_rim(glyphs, len(panels))), len(panels), wanted, read, _SURE)
    return found if _num_named(found) > 1 or len(panels) == 1 else best


def _read_glyphs(
    glyphs: Sequence[_Glyph], num_panels: int, wanted: Sequence[str], read: Read, least_confidence: float
) -> list[str]:
    """Reads the label in each panel; of panels with the same label only the most certain keeps it."""
    sure = [0.0] * num_panels
    names = [""] * num_panels
    for glyph in glyphs:
        text, confidence = read(glyph.shape)
        label = parse_label(text)
        if label not in wanted or confidence < max(least_confidence, sure[glyph.panel]):
            continue
        rival = names.index(label) if label in names else glyph.panel
        if rival != glyph.panel:
            if sure[rival] >= confidence:
                continue
            names[rival], sure[rival] = "", 0.0
        names[glyph.panel], sure[glyph.panel] = label, confidence
    return names


def _num_named(names: Sequence[str]) -> int:
    return sum(map(bool, names))


def _group_glyphs(glyphs: Sequence[_Glyph]) -> list[list[_Glyph]]:
    """Groups shapes that stand at the same place of several panels, most panels and nearest the rim first."""
    groups: list[list[_Glyph]] = []
    for glyph in sorted(glyphs, key=_rim_distance):
        for group in groups:
            if _alike(glyph, group[0]) and all(glyph.panel != other.panel for other in group):
                group.append(glyph)
                break
        else:
            groups.append([glyph])
    several = [group for group in groups if len(group) > 1]
    return sorted(several, key=lambda group: (-len(group), _rim_distance(group[0])))


def _alike(a: _Glyph, b: _Glyph) -> bool:
    height = max(a.height, b.height)
    return (
        a.place == b.place
        and height <= _SAME_HEIGHT * min(a.height, b.height)
        and max(abs(one - other) for one, other in zip(a.inset, b.inset, strict=True)) <= _SAME_INSET * height
    )


def _nearest_to_rim(glyphs: Sequence[_Glyph], num_panels: int) -> Iterator[_Glyph]:
    """Yields a few shapes of each panel."""
    for number in range(num_panels):
        own = sorted((glyph for glyph in glyphs if glyph.panel == number), key=_rim_distance)
        yield from own[:_MAX_READINGS]


def _rim_distance(glyph: _Glyph) -> tuple[float, int, int]:
    return sum(map(abs, glyph.inset)), glyph.place, glyph.panel


def assign_labels(read: Sequence[str], labels: Sequence[str], by_columns: Sequence[int]) -> list[str]:
    """Assigns a label to each panel, in the panels' order (rows first).

    A complete reading decides. Otherwise labels run along the rows, or down the columns if more
    of what was read says so: one letter read wrongly must not shift the others.

    Args:
        read: The label read in each panel, empty where there was none.
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


def _find_glyphs(figure: Pixels, number: int, panel: Box) -> Iterator[_Glyph]:
    """Yields shapes in the corners of a panel, and above and below its middle, where some books print labels."""
    shorter = min(panel.width, panel.height)
    side = min(max(_CORNER_SHARE * shorter + 16, _CORNER_PX), _MAX_CORNER_SHARE * shorter)
    middle, _ = panel.centre
    reach = min(_OUTSIDE_WIDTH_PX, panel.width) / 2
    places: list[tuple[Box, bool | None, bool]] = [
        (Box(x, y, x + side, y + side), at_left, at_top)
        for x, at_left in ((panel.x0, True), (panel.x1 - side, False))
        for y, at_top in ((panel.y0, True), (panel.y1 - side, False))
    ]
    places.append((Box(middle - reach, panel.y1 + 2, middle + reach, panel.y1 + _OUTSIDE_HEIGHT_PX), None, True))
    places.append((Box(middle - reach, panel.y0 - _OUTSIDE_HEIGHT_PX, middle + reach, panel.y0 - 2), None, False))
    for place, (box, at_left, at_top) in enumerate(places):
        clipped = box.clipped(figure.shape[1], figure.shape[0])
        for glyph, shape in _shapes(_cut_out(figure, clipped)):
            x = glyph.centre[0] if at_left is None else glyph.x0 if at_left else glyph.x1
            origin = middle if at_left is None else panel.x0 if at_left else panel.x1
            y, edge = (glyph.y0, panel.y0) if at_top else (glyph.y1, panel.y1)
            inset = (clipped.x0 + x - origin, clipped.y0 + y - edge)
            yield _Glyph(number, place, inset, int(glyph.height), shape)


def _cut_out(figure: Pixels, box: Box) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = box.pixel_bounds()
    if x1 <= x0 or y1 <= y0:
        return np.zeros((0, 0), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(figure[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY))


def _shapes(grey: NDArray[np.uint8]) -> Iterator[tuple[Box, Pixels]]:
    """Yields dark and light shapes of a letter's size, each with its box and alone in black on white."""
    low, high = _GLYPH_HEIGHT_PX
    height, width = grey.shape
    if not grey.size:
        return
    seen: list[Box] = []
    # The darkest and lightest first: a letter that touches a nucleus is darker than that.
    for mask in (*(grey < level for level in _DARK), *(grey > level for level in _LIGHT)):
        parts, stats = connected_components(mask)
        for number, (x, y, w, h, area) in enumerate(stats.tolist()):
            inside = min(x, y, width - x - w, height - y - h) > 0
            if number == 0 or not inside or not low <= h <= high or not 0.15 * h <= w <= 1.3 * h:
                continue
            box = Box(x, y, x + w, y + h)
            if not 0.15 <= area / (w * h) <= 0.85 or any(box.iou(other) > _SAME_SHAPE for other in seen):
                continue
            seen.append(box)
            shape = np.where(parts[y : y + h, x : x + w] == number, 0, 255).astype(np.uint8)
            padded = np.pad(shape, [[_GLYPH_RIM_PX] * 2, [2 * _GLYPH_RIM_PX] * 2], constant_values=255)
            yield box, np.repeat(padded[..., None], 3, axis=2)
