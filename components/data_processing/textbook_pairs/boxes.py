"""Boxes on a page, in pixels, and their reading order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Box(NamedTuple):
    """A rectangle from its upper left to its lower right corner."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Extent along x."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Extent along y."""
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        """Pixels covered; 0 for an empty box."""
        return max(self.width, 0) * max(self.height, 0)

    @property
    def centre(self) -> tuple[float, float]:
        """The middle, as (x, y)."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def intersection(self, other: Box) -> Box:
        """Returns the box that both cover; an empty one has no positive width or height."""
        return Box(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1))

    def covered_by(self, other: Box) -> float:
        """Returns the fraction of this box's area that `other` covers, 0..1.

        >>> Box(0, 0, 10, 10).covered_by(Box(5, 0, 20, 10))
        0.5
        """
        inside = self.intersection(other)
        empty = inside.width <= 0 or inside.height <= 0
        return 0.0 if empty or not self.area else inside.area / self.area

    def iou(self, other: Box) -> float:
        """Returns the intersection over union, 0..1."""
        inside = self.covered_by(other) * self.area
        return inside / (self.area + other.area - inside) if inside else 0.0

    def overlap_x(self, other: Box) -> float:
        """Returns the fraction of the narrower box's width that both have in common, 0..1."""
        return _overlap(self.x0, self.x1, other.x0, other.x1)

    def overlap_y(self, other: Box) -> float:
        """Returns the fraction of the lower box's height that both have in common, 0..1.

        >>> Box(0, 0, 1, 10).overlap_y(Box(5, 8, 6, 12))
        0.5
        """
        return _overlap(self.y0, self.y1, other.y0, other.y1)

    def expanded(self, by_px: float) -> Box:
        """Returns the box with `by_px` more on every side."""
        return Box(self.x0 - by_px, self.y0 - by_px, self.x1 + by_px, self.y1 + by_px)

    def shifted(self, dx: float, dy: float) -> Box:
        """Returns the box shifted by (dx, dy)."""
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)

    def scaled(self, factor: float) -> Box:
        """Returns the box in a picture `factor` times as large."""
        return Box(self.x0 * factor, self.y0 * factor, self.x1 * factor, self.y1 * factor)

    def clipped(self, width: float, height: float) -> Box:
        """Returns the part of the box that lies on a page of that size."""
        return self.intersection(Box(0, 0, width, height))

    def pixel_bounds(self) -> tuple[int, int, int, int]:
        """Returns the smallest box of whole pixels around it, as array bounds (x0, y0, x1, y1)."""
        return int(self.x0), int(self.y0), -int(-self.x1 // 1), -int(-self.y1 // 1)


def union(boxes: Iterable[Box]) -> Box:
    """Returns the smallest box around all boxes.

    >>> union([Box(0, 0, 1, 1), Box(4, 2, 6, 3)])
    Box(x0=0, y0=0, x1=6, y1=3)
    """
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return Box(min(x0), min(y0), max(x1), max(y1))


def reading_order(items: Sequence[T], box_of: Callable[[T], Box], *, columns_first: bool) -> list[T]:
    """Sorts items into reading order by recursive XY-cut: splits at gaps between rows and columns, in turn.

    Args:
        items: Panels or lines of text.
        box_of: The box of an item.
        columns_first: Whether a page with both kinds of gaps is read column by column (text) or row by row (panels).

    >>> grid = [Box(5, 5, 9, 9), Box(5, 0, 9, 4), Box(0, 5, 4, 9), Box(0, 0, 4, 4)]
    >>> [(box.x0, box.y0) for box in reading_order(grid, lambda box: box, columns_first=False)]
    [(0, 0), (5, 0), (0, 5), (5, 5)]
    >>> [(box.x0, box.y0) for box in reading_order(grid, lambda box: box, columns_first=True)]
    [(0, 0), (0, 5), (5, 0), (5, 5)]
    """
    if len(items) < 2:
        return list(items)
    first, second = (0, 1) if columns_first else (1, 0)
    groups = _split_at_gaps(items, box_of, first)
    if len(groups) == 1:
        # Only the widest gap: a heading above two columns, cut at every gap, would be read across the columns.
        groups = _split_at_widest_gap(items, box_of, second)
    if len(groups) == 1:
        return sorted(items, key=lambda item: (box_of(item).y0, box_of(item).x0))
    return [item for group in groups for item in reading_order(group, box_of, columns_first=columns_first)]


def _overlap(a0: float, a1: float, b0: float, b1: float) -> float:
    shorter = min(a1 - a0, b1 - b0)
    return max(min(a1, b1) - max(a0, b0), 0) / shorter if shorter > 0 else 0.0


def _split_at_gaps(items: Sequence[T], box_of: Callable[[T], Box], axis: int) -> list[list[T]]:
    """Groups items whose extents along `axis` (0 is x, 1 is y) do not touch, in order."""
    ordered = sorted(items, key=lambda item: _extent(box_of(item), axis))
    groups = [[ordered[0]]]
    end = _extent(box_of(ordered[0]), axis)[1]
    for item in ordered[1:]:
        start, stop = _extent(box_of(item), axis)
        if start > end:
            groups.append([])
        groups[-1].append(item)
        end = max(end, stop)
    return groups


def _split_at_widest_gap(items: Sequence[T], box_of: Callable[[T], Box], axis: int) -> list[list[T]]:
    groups = _split_at_gaps(items, box_of, axis)
    if len(groups) < 3:
        return groups
    spans = [union(box_of(item) for item in group) for group in groups]
    gaps = [after[axis] - before[axis + 2] for before, after in pairwise(spans)]
    cut = gaps.index(max(gaps)) + 1
    return [[item for group in part for item in group] for part in (groups[:cut], groups[cut:])]


def _extent(box: Box, axis: int) -> tuple[float, float]:
    """Returns start and end along an axis, slightly shortened: boxes of lines and panels are not exact."""
    slack = 0.1 * min(box.width, box.height)
    return box[axis] + slack, box[axis + 2] - slack
