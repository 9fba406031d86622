"""Builds grids of panels: completes one that is cut in part, and proposes some for figures without gutters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from math import log

from components.data_processing.textbook_pairs.boxes import Box, reading_order, union
from components.data_processing.textbook_pairs.figures.panels import seam_strengths
from components.data_processing.textbook_pairs.pixels import Pixels

_SAME_SIDE_PX = 4.0
_SAME_ROW = 0.5
_USUAL_ASPECT = 4 / 3
# A cut may be off its place in an even grid by this share of a panel; a seam fainter than this does not move it.
_OFF_PLACE = 0.25
_FAINT_SEAM = 1.2


def complete_grid(panels: Sequence[Box]) -> list[Box]:
    """Completes a grid: a panel as wide as a row is cut like another row; in reading order.

    >>> top = [Box(0, 0, 9, 9), Box(11, 0, 20, 9)]
    >>> complete_grid([*top, Box(0, 11, 20, 20)]) == [*top, Box(0, 11, 9, 20), Box(11, 11, 20, 20)]
    True
    """
    rows: list[list[Box]] = []
    for panel in sorted(panels, key=lambda box: (box.y0, box.x0)):
        row = next((row for row in rows if row[0].overlap_y(panel) > _SAME_ROW), None)
        if row is None:
            rows.append([panel])
        else:
            row.append(panel)
    cut: list[Box] = []
    for row in rows:
        model = next((other for other in rows if len(other) > 1 and _as_wide(row, other)), row)
        cut += [row[0]._replace(x0=part.x0, x1=part.x1) for part in model] if len(row) == 1 else row
    return reading_order(cut, lambda box: box, columns_first=False)


def _as_wide(row: Sequence[Box], other: Sequence[Box]) -> bool:
    ours, theirs = union(row), union(other)
    return max(abs(ours.x0 - theirs.x0), abs(ours.x1 - theirs.x1)) <= _SAME_SIDE_PX


def candidate_grids(figure: Pixels, num_panels: int, min_panel_px: int) -> Iterator[list[Box]]:
    """Yields grids of so many panels that fill a figure, in reading order, the most usual panel shapes first.

    Of each kind the even one comes first, then the one whose cuts lie at the clearest seams near there, however faint:
    what is printed on the panels must tell whether there is a grid at all.

    Args:
        figure: The figure's pixels.
        num_panels: Number of panels.
        min_panel_px: Least width and height of a panel.
    """
    height, width = figure.shape[:2]
    layouts = [(num_panels // rows,) * rows for rows in range(1, num_panels + 1) if num_panels % rows == 0]
    if num_panels % 2 and num_panels > 1:
        layouts += [(num_panels // 2, num_panels // 2 + 1), (num_panels // 2 + 1, num_panels // 2)]

    def aspect_deviation(layout: tuple[int, ...]) -> float:
        aspect = (width * len(layout) / num_panels) / (height / len(layout))
        return abs(log(aspect / _USUAL_ASPECT))

    for layout, evenly in product(sorted(layouts, key=aspect_deviation), (True, False)):
        boxes = [
            Box(x0, y0, x1, y1)
            for (y0, y1), num_columns in zip(
                pairwise(_cut_positions(figure, len(layout), 1, evenly)), layout, strict=True
            )
            for x0, x1 in pairwise(_cut_positions(figure[y0:y1], num_columns, 0, evenly))
        ]
        if all(min(box.width, box.height) >= min_panel_px for box in boxes):
            yield boxes


def _cut_positions(pixels: Pixels, num_parts: int, axis: int, evenly: bool) -> list[int]:
    """Returns where a picture begins, is cut into parts and ends along an axis."""
    size = pixels.shape[1 - axis]
    cuts = [round(number * size / num_parts) for number in range(num_parts + 1)]
    if evenly or num_parts == 1:
        return cuts
    strengths = seam_strengths(pixels, axis)
    reach = int(_OFF_PLACE * size / num_parts)
    for number, even in enumerate(cuts[1:-1], 1):
        near = strengths[even - reach : even + reach + 1]
        if near.size and float(near.max()) >= _FAINT_SEAM:
            cuts[number] = even - reach + int(near.argmax())
    return cuts
