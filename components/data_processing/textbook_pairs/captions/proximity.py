"""Measures how far pictures and captions are from each other on a page, and finds what stands between them."""

from __future__ import annotations

from collections.abc import Sequence

from components.data_processing.textbook_pairs.boxes import Box

ABOVE_PENALTY = 2.0
"""How much nearer a caption above its picture must be than one below it."""

_BESIDE_PENALTY = 1.5
_MIN_OVERLAP = 0.3
_MIN_SEPARATOR_SHARE = 0.3


def gap(picture: Box, member: Box, *, is_caption: bool) -> float | None:
    """Returns the distance of a picture from its caption or from another picture of its figure, in pixels.

    None where neither stands above, below or beside the other. A caption may begin at the edge of its column, and a
    picture that is set in from there need not reach far over it.
    """
    slack = 0.3 * min(picture.height, member.height)
    over = picture.overlap_x(member)
    if over > _MIN_OVERLAP or (is_caption and over > 0):
        if picture.y1 <= member.y0 + slack:
            return max(member.y0 - picture.y1, 0.0)
        if picture.y0 >= member.y1 - slack:
            return max(picture.y0 - member.y1, 0.0) * (ABOVE_PENALTY if is_caption else 1.0)
    if picture.overlap_y(member) > _MIN_OVERLAP:
        return max(picture.x0 - member.x1, member.x0 - picture.x1, 0.0) * _BESIDE_PENALTY
    return None


def is_separated(a: Box, b: Box, separators: Sequence[Box]) -> bool:
    """Checks whether body text or a caption stands between two boxes."""
    low, high = sorted((a, b), key=lambda box: box.y0)
    if low.y1 < high.y0 and low.overlap_x(high) > 0:
        between = Box(max(a.x0, b.x0), low.y1, min(a.x1, b.x1), high.y0)
    else:
        left, right = sorted((a, b), key=lambda box: box.x0)
        between = Box(left.x1, max(a.y0, b.y0), right.x0, min(a.y1, b.y1))
    return any(other not in (a, b) and other.covered_by(between) > _MIN_SEPARATOR_SHARE for other in separators)
