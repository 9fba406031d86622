"""Matches captions to the pictures around them by their place on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.captions.blocks import CaptionBlock
from components.data_processing.textbook_pairs.captions.proximity import ABOVE_PENALTY, gap, is_separated
from components.data_processing.textbook_pairs.captions.unnumbered_captions import find_unnumbered_captions
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.text.ocr import Line

_UNTOLD_REACH = 0.35
_SWALLOWED = 0.5


def match_captions(
    captions: Sequence[CaptionBlock],
    pictures: Sequence[Box],
    lines: Sequence[Line],
    regions: Sequence[Region],
    max_distance_px: float,
) -> list[tuple[CaptionBlock, list[Box]]]:
    """Matches the pictures of a page to its numbered captions, then to those without a number.

    First every numbered caption that can have a picture gets one, such that the sum of their distances is least (an
    assignment problem): captions stand below their figure as a rule, and one above or beside must be nearer. Then
    come the captions without a number; at last each picture that is left goes to the nearest caption or figure that
    nothing separates from it.

    Args:
        captions: The page's numbered captions.
        pictures: Boxes that may hold figures, and others that may bear a caption (charts).
        lines: All lines of the page but panel labels; body text between a picture and a caption parts them.
        regions: The layout model's regions.
        max_distance_px: Largest gap between a picture and its caption.
    """
    separators = [line.box for line in lines if all(line not in block.lines for block in captions)]
    separators += [block.box for block in captions]
    matched = _assign_pictures(captions, pictures, separators, max_distance_px)
    found = [picture for group in matched for picture in group]
    waiting = [picture for picture in pictures if picture not in found]
    titles = find_unnumbered_captions(lines, regions, captions, waiting, max_distance_px)
    titled = [picture for _, group in titles for picture in group]
    waiting = [picture for picture in waiting if picture not in titled]
    _assign_rest(captions, matched, waiting, titled, separators, max_distance_px)
    return [*zip(captions, matched, strict=True), *titles]


def _assign_pictures(
    captions: Sequence[CaptionBlock], pictures: Sequence[Box], separators: Sequence[Box], max_distance_px: float
) -> list[list[Box]]:
    """Assigns one picture or none to each caption: as many as possible, at the least total distance."""
    matched: list[list[Box]] = [[] for _ in captions]
    if not captions or not pictures:
        return matched
    costs = np.array(
        [[_cost(picture, [block.box], separators, max_distance_px) for picture in pictures] for block in captions],
        dtype=np.float64,
    )
    possible = np.isfinite(costs)
    # A pair that cannot be costs more than all others together.
    costs[~possible] = 1e9
    for at, number in zip(*linear_sum_assignment(costs), strict=True):
        if possible[at, number]:
            matched[int(at)].append(pictures[int(number)])
    return matched


def _assign_rest(
    captions: Sequence[CaptionBlock],
    matched: list[list[Box]],
    waiting: list[Box],
    titled: Sequence[Box],
    separators: Sequence[Box],
    max_distance_px: float,
) -> None:
    """Adds each remaining picture to the nearest figure; one may reach its caption through another picture of it.

    Args:
        captions: The numbered captions.
        matched: The pictures of each, to which this adds.
        waiting: Pictures that belong to no caption yet.
        titled: Pictures that belong to a caption without a number.
        separators: Lines and captions; one between two pictures separates them.
        max_distance_px: Largest gap; panels of a figure whose caption tells of none stand nearer to each other.
    """

    def would_cover_others(whole: Box, at: int) -> bool:
        """Checks whether a figure as large as this would cover another's pictures or caption."""
        others = [picture for number, group in enumerate(matched) if number != at for picture in group]
        others += [*titled, *(block.box for block in captions)]
        return any(other.covered_by(whole) > _SWALLOWED for other in others)

    while waiting:
        best = min(
            (
                (cost, at, picture)
                for picture in waiting
                for at, block in enumerate(captions)
                if matched[at]
                and math.isfinite(
                    cost := _cost(
                        picture,
                        [block.box, *matched[at]],
                        separators,
                        max_distance_px * (1.0 if block.caption.parts else _UNTOLD_REACH),
                    )
                )
                and not would_cover_others(union([picture, *matched[at]]), at)
            ),
            default=None,
        )
        if best is None:
            break
        _, at, picture = best
        matched[at].append(picture)
        waiting.remove(picture)


def _cost(picture: Box, group: Sequence[Box], separators: Sequence[Box], max_distance_px: float) -> float:
    """Returns the distance of a picture from a caption or its pictures; infinite if they cannot belong together."""
    costs = [
        cost
        for at, member in enumerate(group)
        if (cost := gap(picture, member, is_caption=at == 0)) is not None
        and cost <= max_distance_px * (ABOVE_PENALTY if at == 0 else 1.0)
        and not is_separated(picture, member, separators)
    ]
    return min(costs, default=math.inf)
