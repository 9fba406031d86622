"""Lays out the lineage graph: sources to the left, the registered version to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BOX_WIDTH_PX = 154
BOX_HEIGHT_PX = 54
_COLUMN_PX = 190
_ROW_PX = 82
_MARGIN_PX = 16
_SWEEPS = 6


@dataclass(frozen=True)
class Layout:
    """A drawing's size and the upper left corner of each box, in px."""

    width_px: int
    height_px: int
    places: dict[str, tuple[int, int]]


def layers(names: Sequence[str], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Places each box in a column: right of all that it was made from; what begins stands by its first use.

    >>> layers(["c", "b", "a", "source"], [("a", "b"), ("b", "c"), ("a", "c"), ("source", "c")])
    {'c': 2, 'b': 1, 'a': 0, 'source': 1}
    """
    columns = dict.fromkeys(names, 0)
    known = [(source, target) for source, target in edges if source in columns and target in columns]
    # A damaged record can make a circle: as many rounds as there are boxes settle everything else.
    for _ in names:
        for source, target in known:
            columns[target] = min(max(columns[target], columns[source] + 1), len(columns))
    for begin in columns.keys() - {target for _, target in known}:
        columns[begin] = max(min((columns[target] for source, target in known if source == begin), default=1) - 1, 0)
    return columns


def layout(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layout:
    """Places boxes in columns, each near the middle of those that it is joined to."""
    columns = layers(names, edges)
    rows: dict[int, list[str]] = {}
    for name in names:
        rows.setdefault(columns[name], []).append(name)
    for _ in range(_SWEEPS):
        for column in sorted(rows):
            middles = _middles(edges, rows)
            rows[column].sort(key=middles.__getitem__)
    tallest = max(map(len, rows.values()), default=1)
    places = {
        name: (
            _MARGIN_PX + index * _COLUMN_PX,
            _MARGIN_PX + round(((tallest - len(rows[column])) / 2 + row) * _ROW_PX),
        )
        for index, column in enumerate(sorted(rows))
        for row, name in enumerate(rows[column])
    }
    return Layout(
        width_px=2 * _MARGIN_PX + (len(rows) - 1) * _COLUMN_PX + BOX_WIDTH_PX,
        height_px=2 * _MARGIN_PX + (tallest - 1) * _ROW_PX + BOX_HEIGHT_PX,
        places=places,
    )


def _middles(edges: Sequence[tuple[str, str]], rows: dict[int, list[str]]) -> dict[str, float]:
    """Returns the mean height, 0 to 1, of those that each box is joined to; its own where there are none."""
    heights = {name: place / len(row) for row in rows.values() for place, name in enumerate(row)}
    middles = {}
    for name, own in heights.items():
        joined = [heights[other] for edge in edges if name in edge for other in edge if other != name]
        middles[name] = sum(joined) / len(joined) if joined else own
    return middles


def path(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Draws an SVG path from one box's right side to another's left, around what may stand between them."""
    x0, y0 = start[0] + BOX_WIDTH_PX, start[1] + BOX_HEIGHT_PX // 2
    x1, y1 = end[0], end[1] + BOX_HEIGHT_PX // 2
    bend = max(20, (x1 - x0) // 2)
    if x1 - x0 < _COLUMN_PX:
        return f"M{x0},{y0} C{x0 + bend},{y0} {x1 - bend},{y1} {x1},{y1}"
    around = (min(y0, y1) - _ROW_PX // 2) if y0 <= y1 else (max(y0, y1) + _ROW_PX // 2)
    return f"M{x0},{y0} C{x0 + 60},{around} {x1 - 60},{around} {x1},{y1}"
