"""Removes dust from scans: specks smaller than any letter, in which the layout model sees figures."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import cv2
import numpy as np

from components.data_processing.textbook_pairs.pixels import connected_components

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.pixels import Pixels

_DARKER = 18
_BACKGROUND_PX = 9
_MAX_AREA = 9
_MAX_SIDE_PX = 4
# Dots of letters and full stops are nearer to their letter.
_ALONE_PX = 5
_TILE_PX = 64


def remove_dust(page: Pixels) -> Pixels:
    """Removes isolated specks, for finding things on the page; returns the page itself if there are none.

    >>> page = np.full((40, 40, 3), 250, dtype=np.uint8)
    >>> page[10:30, 8] = page[20, 20] = 0
    >>> cleaned = remove_dust(page)
    >>> int(cleaned[20, 20, 0]), int(cleaned[20, 8, 0])
    (250, 0)
    """
    grey = cv2.cvtColor(page, cv2.COLOR_RGB2GRAY)
    dark = cv2.subtract(cv2.blur(grey, (_BACKGROUND_PX, _BACKGROUND_PX)), grey) > _DARKER
    labels, stats = connected_components(dark)
    small = (stats[:, cv2.CC_STAT_AREA] <= _MAX_AREA) & (
        stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1) <= _MAX_SIDE_PX
    )
    small[0] = False
    if not small.any():
        return page
    others = (dark & ~small.take(labels)).astype(np.uint8)
    near = cv2.dilate(others, np.ones((2 * _ALONE_PX + 1,) * 2, np.uint8)) == 1
    small[labels[near]] = False
    if not small.any():
        return page
    specks = cv2.dilate(small.take(labels).astype(np.uint8), np.ones((3, 3), np.uint8)) == 1
    cleaned = page.copy()
    height, width = specks.shape
    # The median of a whole page costs more than all the rest, and specks are few.
    for top, left in itertools.product(range(0, height, _TILE_PX), range(0, width, _TILE_PX)):
        tile = np.s_[top : top + _TILE_PX, left : left + _TILE_PX]
        if specks[tile].any():
            y0, x0 = max(top - _BACKGROUND_PX, 0), max(left - _BACKGROUND_PX, 0)
            around = page[y0 : top + _TILE_PX + _BACKGROUND_PX, x0 : left + _TILE_PX + _BACKGROUND_PX]
            paper = cv2.medianBlur(np.ascontiguousarray(around), _BACKGROUND_PX)[top - y0 :, left - x0 :]
            here = specks[tile]
            cleaned[tile][here] = paper[: here.shape[0], : here.shape[1]][here]
    return cleaned
