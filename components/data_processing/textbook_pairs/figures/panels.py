"""Finds the panels of a figure: at bands of paper between them, and at straight seams where they touch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.boxes import Box, reading_order, union
from components.data_processing.textbook_pairs.pixels import Mask, Pixels

_MIN_GUTTER_PX = 2
_MAX_INK_IN_GUTTER = 0.03
_MAX_DUST_PX = 2
_FULL_PANEL = 0.93
_EVEN_GAPS = 2.0
_SEAM_REACH_PX = 3
_SEAM_NEIGHBOURHOOD_PX = 12
_SEAM_STRETCH_PX = 4
_SEAM_PARTS = 6
_SEAM_FLOOR = 0.05
_MIN_SEAM_STRENGTH = 2.2
_AS_CLEAR = 0.6
_CLEAR_SEAM = 3.0
_AS_LARGE = 0.6
# A seam that divides its picture evenly needs less to be seen.
_EVEN_BONUS = 1.3
_EVEN_TOLERANCE = 0.015


def find_panels(figure: Pixels, ink: Mask, num_expected: int, min_panel_px: int) -> list[Box]:
    """Finds the panels of a figure in reading order, rows first, in pixels of the figure.

    Args:
        figure: The figure's pixels.
        ink: Where the figure is not paper.
        num_expected: Number of panels that the caption names; 0 if it names none.
        min_panel_px: Least width and height of a panel.

    Bands of paper decide. Where they leave fewer panels than expected, seams are tried; where they leave more, and
    these are no grid of panels (a photograph on white paper falls apart), neighbours with the narrowest bands are
    joined.
    """
    panels = [box for box in xy_cut(ink) if min(box.width, box.height) >= min_panel_px]
    if num_expected and len(panels) > num_expected and not _is_grid(ink, panels):
        panels = join_nearest(panels, num_expected)
    weakest = np.inf
    while 0 < len(panels) < num_expected:
        strength, split = _split_at_best_seam(figure, panels, min_panel_px)
        if strength < _MIN_SEAM_STRENGTH:
            break
        panels, weakest = split, min(weakest, strength)
    if weakest < np.inf and len(panels) == num_expected:
        strength, split = _split_at_best_seam(figure, panels, min_panel_px)
        parts, others = [box for box in split if box not in panels], [box for box in split if box in panels]
        as_large = min(box.area for box in parts) >= _AS_LARGE * min(box.area for box in others)
        if as_large and strength >= max(_AS_CLEAR * weakest, _CLEAR_SEAM):
            # One more is as clear as those that were cut: the caption does not tell of all panels.
            panels = split
    return reading_order(panels, lambda box: box, columns_first=False)


def _is_grid(ink: Mask, panels: Sequence[Box]) -> bool:
    """Checks whether panels fill their boxes, as photographs on a ground of their own do, and are evenly spaced."""
    boxes = [box.pixel_bounds() for box in panels]
    full = all(ink[y0:y1, x0:x1].mean() >= _FULL_PANEL for x0, y0, x1, y1 in boxes)
    gaps = [min(_distance(panel, other) for other in panels if other is not panel) for panel in panels]
    return full and max(gaps) <= _EVEN_GAPS * max(min(gaps), 1.0)


def xy_cut(ink: Mask) -> list[Box]:
    """Cuts a mask at every empty band, rows and columns in turn, and returns the boxes that are left.

    >>> ink = np.zeros((10, 20), dtype=bool)
    >>> ink[1:9, 1:8] = ink[1:9, 12:19] = True
    >>> [tuple(box) for box in xy_cut(ink)]
    [(1, 1, 8, 9), (12, 1, 19, 9)]
    """
    return list(_cut(ink, 0, 0, axis=1, tries_left=2))


def join_nearest(panels: list[Box], num_wanted: int) -> list[Box]:
    """Joins panels, the nearest first, until `num_wanted` are left, as long as what is joined stays a rectangle.

    >>> join_nearest([Box(0, 0, 9, 9), Box(12, 0, 20, 9), Box(40, 0, 60, 9)], 2)
    [Box(x0=0, y0=0, x1=20, y1=9), Box(x0=40, y0=0, x1=60, y1=9)]
    """
    panels = list(panels)
    while len(panels) > num_wanted:
        pairs = [(_distance(a, b), i, j, union([a, b])) for i, a in enumerate(panels) for j, b in enumerate(panels[:i])]
        free = [
            (distance, i, j, both)
            for distance, i, j, both in pairs
            if all(panel.covered_by(both) < 0.1 for at, panel in enumerate(panels) if at not in (i, j))
        ]
        if not free:
            return panels
        _, i, j, both = min(free)
        panels = [panel for at, panel in enumerate(panels) if at not in (i, j)] + [both]
    return sorted(panels)


def _cut(ink: Mask, dx: int, dy: int, axis: int, tries_left: int) -> Iterator[Box]:
    """Yields the boxes of one part of the mask, which lies at (dx, dy); `axis` 1 looks for empty rows first."""
    # A speck of dust does not close a gutter.
    runs = _runs(ink.sum(axis=axis) > max(_MAX_INK_IN_GUTTER * ink.shape[axis], _MAX_DUST_PX))
    tries_left = 2 if len(runs) > 1 else tries_left - 1
    for start, stop in runs:
        part = ink[start:stop] if axis == 1 else ink[:, start:stop]
        x, y = (dx, dy + start) if axis == 1 else (dx + start, dy)
        if tries_left < 0:
            yield Box(x, y, x + part.shape[1], y + part.shape[0])
        else:
            yield from _cut(part, x, y, 1 - axis, tries_left)


def _runs(full: Mask) -> list[tuple[int, int]]:
    """Returns the runs of True as (start, stop), those closer than a gutter joined."""
    steps = np.diff(np.concatenate([[False], full, [False]]).astype(np.int8))
    runs: list[tuple[int, int]] = []
    for start, stop in zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True):
        if runs and start - runs[-1][1] < _MIN_GUTTER_PX:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def _distance(a: Box, b: Box) -> float:
    return max(max(a.x0, b.x0) - min(a.x1, b.x1), max(a.y0, b.y0) - min(a.y1, b.y1), 0.0)


def _split_at_best_seam(figure: Pixels, panels: list[Box], min_panel_px: int) -> tuple[float, list[Box]]:
    """Returns the strength of the clearest seam, and the panels cut there."""
    seams = []
    for at, panel in enumerate(panels):
        x0, y0, x1, y1 = panel.pixel_bounds()
        for axis in (0, 1):
            strength, position = _seam(figure[y0:y1, x0:x1], axis, min_panel_px)
            seams.append((strength, at, axis, position))
    strength, at, axis, position = max(seams)
    panel = panels[at]
    # A pixel on each side of the seam shows both panels.
    first = panel._replace(x1=panel.x0 + position - 1) if axis == 0 else panel._replace(y1=panel.y0 + position - 1)
    second = panel._replace(x0=panel.x0 + position + 1) if axis == 0 else panel._replace(y0=panel.y0 + position + 1)
    return strength, [*panels[:at], first, second, *panels[at + 1 :]]


def _seam(panel: Pixels, axis: int, min_panel_px: int) -> tuple[float, int]:
    """Finds the clearest straight seam or thin rule across a panel, as (strength, position along the axis)."""
    if panel.shape[1 - axis] < 2 * min_panel_px:
        return 0.0, 0
    strengths = seam_strengths(panel, axis)
    strengths[:min_panel_px] = strengths[-min_panel_px:] = 0
    position = int(strengths.argmax())
    return float(strengths[position]), position


def seam_strengths(panel: Pixels, axis: int) -> NDArray[np.float64]:
    """Scores how clearly a straight seam or thin rule crosses a panel at each place along an axis (0 x, 1 y).

    At a seam the colours change between one column of pixels and the next all along its length: by little where the
    pictures are alike, but by more than anywhere near. Texture changes by more, but here and there. So each short
    stretch of a column is only asked how many of its neighbours change less than it does. The strength says by how
    much the mean answer of a column stands out from those around it, in robust standard deviations; a third of the
    column does not count, as a printed label or the rim of a specimen is straight for a part of the way.
    """
    colours = panel.astype(np.float32) if axis == 0 else panel.astype(np.float32).transpose(1, 0, 2)
    if colours.shape[1] <= 2 * _SEAM_NEIGHBOURHOOD_PX:
        return np.zeros(colours.shape[1])
    ranks = _rank_of_change(colours)
    parts = np.sort([part.mean(axis=0) for part in np.array_split(ranks, min(_SEAM_PARTS, len(ranks)))], axis=0)
    strengths = _prominence(parts[: (2 * len(parts) + 2) // 3].mean(axis=0))
    places = np.linspace(0, 1, len(strengths))
    even = np.min([np.abs(places - share) for share in (1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4)], axis=0) < _EVEN_TOLERANCE
    return np.asarray(strengths * np.where(even, _EVEN_BONUS, 1.0))


def _rank_of_change(colours: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the fraction of neighbours that change less than a short stretch of a column, `[stretch, x]`."""
    num_stretches = max(colours.shape[0] // _SEAM_STRETCH_PX, 1)
    stretches = np.array_split(colours, num_stretches)
    means = np.stack([stretch.mean(axis=0) for stretch in stretches])
    reach, near = _SEAM_REACH_PX, _SEAM_NEIGHBOURHOOD_PX
    change = np.abs(means[:, reach:] - means[:, :-reach]).sum(axis=2)
    # Padded so that place x compares the pixels around the line between x - 1 and x.
    change = np.pad(change, [[0, 0], [reach // 2 + 1, reach - reach // 2 - 1]], mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(change, [[0, 0], [near, near]], mode="reflect"), 2 * near + 1, axis=1
    )
    num_less = (around < change[..., None]).sum(axis=2)
    num_alike = (around == change[..., None]).sum(axis=2) - 1
    return np.asarray((num_less + num_alike / 2) / (2 * near))


def _prominence(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns how far each place stands out from those around it, in robust standard deviations of the profile."""
    window = 2 * _SEAM_NEIGHBOURHOOD_PX + 1
    padded = np.pad(profile, _SEAM_NEIGHBOURHOOD_PX, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    excess = profile - around
    return np.asarray(excess / (1.48 * float(np.median(np.abs(excess))) + _SEAM_FLOOR))
