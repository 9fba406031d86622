"""Cuts a figure into panels, each with its label and part of the caption, or keeps it whole with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from components.data_processing.textbook_pairs.boxes import Box, reading_order, union
from components.data_processing.textbook_pairs.captions.parsing import PLACES, Caption, next_label
from components.data_processing.textbook_pairs.figures import labels
from components.data_processing.textbook_pairs.figures.grids import candidate_grids, complete_grid
from components.data_processing.textbook_pairs.figures.labels import Read
from components.data_processing.textbook_pairs.figures.panels import find_panels
from components.data_processing.textbook_pairs.pages.rendering import Rendering
from components.data_processing.textbook_pairs.pixels import Mask

_SIDE_BY_SIDE = 0.5
_MAX_GRIDS = 6
_SEAM_PX = 3.0


WHOLE = ""
"""The label of a figure that has one panel or was kept whole."""

LabelSource = Literal["", "labels", "places", "order"]
"""How panels came to their parts of the caption: by printed labels, by words such as left, or by reading order."""


@dataclass(frozen=True)
class CutFigure:
    """A figure cut into panels.

    Attributes:
        boxes: Its panels in reading order, in coarse pixels of the page; one box for a whole figure.
        names: The label of each.
        kept_whole: Why a figure of several panels was not cut; empty otherwise.
        labels_from: How the names came to their panels.
    """

    boxes: list[Box]
    names: list[str]
    kept_whole: str = ""
    labels_from: LabelSource = ""


def cut_figure(
    rendering: Rendering, ink: Mask, group: Sequence[Box], caption: Caption, min_panel_px: int, read: Read
) -> CutFigure:
    """Cuts the figure that covers the boxes of a group into the panels that its caption tells of.

    Labels printed on the panels decide which is which; where they cannot be read, reading order does. Where panels
    and parts of the caption differ in number, nothing is guessed: the figure is kept whole.
    """
    whole = union(group).clipped(*rendering.size)
    x0, y0, x1, y1 = whole.pixel_bounds()
    found = find_panels(rendering.coarse[y0:y1, x0:x1], ink[y0:y1, x0:x1], len(caption.parts), min_panel_px)
    boxes = [box.shifted(x0, y0) for box in found] or [whole]
    wanted = list(caption.parts)
    placed = bool(wanted) and set(wanted) <= set(PLACES)
    search = _LabelSearch(rendering, whole, min_panel_px, read)
    if len(boxes) < len(wanted) and not placed:
        boxes = search.completed(boxes, wanted) or search.grid(wanted) or boxes
    num_panels, seen = len(boxes), [""] * len(boxes)
    if num_panels == len(wanted) > 1 and not placed:
        seen = search.labels(boxes, wanted)
        # Seams are less sure than gutters: labels that stand at the panels of another grid count more.
        if _touch(boxes) and sorted(seen) != sorted(wanted) and (grid := search.grid(wanted)):
            boxes, seen = grid, search.labels(grid, wanted)
        if _touch(boxes) and search.grid([*wanted, next_label(wanted)], max_grids=2):
            num_panels += 1
    if num_panels != max(len(wanted), 1):
        why = f"{num_panels} panels, {len(wanted)} parts of the caption"
        return CutFigure([union(boxes)], [caption.panel or WHOLE], why)
    if not wanted:
        return CutFigure(boxes, [caption.panel or WHOLE])
    if placed:
        names = _by_place(boxes, wanted)
        if names:
            return CutFigure(boxes, names, labels_from="places")
        return CutFigure([union(boxes)], [WHOLE], f"the panels do not stand {' and '.join(wanted)}")
    order = reading_order(range(len(boxes)), lambda at: boxes[at], columns_first=True)
    names = labels.assign_labels(seen, wanted, [order.index(at) for at in range(len(boxes))])
    num_agreeing = sum(name == label for name, label in zip(names, seen, strict=True))
    return CutFigure(boxes, names, labels_from="labels" if 2 * num_agreeing >= len(boxes) else "order")


class _LabelSearch(NamedTuple):
    """Looks for printed labels on the panels that a figure may have."""

    rendering: Rendering
    whole: Box
    min_panel_px: int
    read: Read

    def labels(self, boxes: Sequence[Box], wanted: Sequence[str]) -> list[str]:
        """Reads the label of each panel; empty where none of those wanted stands."""
        fine = [box.scaled(self.rendering.scale) for box in boxes]
        return labels.read_labels(self.rendering.fine, fine, wanted, self.read)

    def completed(self, boxes: list[Box], wanted: Sequence[str]) -> list[Box]:
        """Returns the panels with a cut that cannot be seen, if the grid has a place for it and labels confirm it."""
        full = complete_grid(boxes)
        if len(full) != len(wanted):
            return []
        seen = self.labels(full, wanted)
        told_apart = all(label for box, label in zip(full, seen, strict=True) if box not in boxes)
        return full if told_apart and len(set(filter(None, seen))) == len(list(filter(None, seen))) else []

    def grid(self, wanted: Sequence[str], max_grids: int = _MAX_GRIDS) -> list[Box]:
        """Returns a grid over the whole figure at whose panels all labels stand in order; empty if there is none."""
        x0, y0, x1, y1 = self.whole.pixel_bounds()
        pixels = self.rendering.coarse[y0:y1, x0:x1]
        for grid in islice(candidate_grids(pixels, len(wanted), self.min_panel_px), max_grids):
            boxes = [box.shifted(x0, y0) for box in grid]
            seen = self.labels(boxes, wanted)
            label_of = dict(zip(boxes, seen, strict=True))
            down = [label_of[box] for box in reading_order(boxes, lambda box: box, columns_first=True)]
            if list(wanted) in (seen, down):
                return boxes
        return []


def _touch(boxes: Sequence[Box]) -> bool:
    """Checks whether some of the panels have no band of paper between them."""
    return any(box.expanded(_SEAM_PX).covered_by(other) > 0 for at, box in enumerate(boxes) for other in boxes[:at])


def _by_place(boxes: Sequence[Box], wanted: Sequence[str]) -> list[str]:
    """Returns which of two panels is left and which right, or top and bottom; empty if they do not stand so."""
    first, second = boxes
    if "left" in wanted:
        beside = first.overlap_y(second) > _SIDE_BY_SIDE and first.overlap_x(second) < _SIDE_BY_SIDE
        names = ["left", "right"] if first.x0 < second.x0 else ["right", "left"]
        return names if beside else []
    stacked = first.overlap_x(second) > _SIDE_BY_SIDE and first.overlap_y(second) < _SIDE_BY_SIDE
    names = ["top", "bottom"] if first.y0 < second.y0 else ["bottom", "top"]
    return names if stacked else []
