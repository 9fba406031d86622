"""Removes shadows from scanned and photographed pages: of the book's spine, a hand, a curling sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from components.data_processing.textbook_pairs.pixels import Pixels

# Light is told at a quarter of the size; the paper between letters fills a window of this side there.
_REDUCTION = 4
_WINDOW = 7
_MAX_CHROMA = 0.012
_MAX_TEXTURE = 0.14
_MIN_STEP = 0.02
_STEP_REACH = 3
_DARKEST = 0.3
_WORTH_IT = 0.9
_SHADED = 0.98
_SPREAD = 12.0
# Where no paper is near, full light is taken for granted.
_FAINT = np.float32(1e-4)


def remove_shadows(page: Pixels) -> Pixels:
    """Removes shadows, for finding things on the page; returns the page itself if its light is even.

    A shadow is paper, of the paper's own tint and without texture, that reaches the edge of the page. Light on the
    rest, pictures above all, is guessed from the paper around.
    """
    light = _keep_deep_shadows(_estimate_illumination(page))
    if light.min() >= _WORTH_IT:
        return page
    height, width = page.shape[:2]
    whole = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.minimum(page / whole[..., None], 255.0).astype(np.uint8))


def _estimate_illumination(page: Pixels) -> NDArray[np.float32]:
    """Estimates the illumination, 1 where it is brightest; at a quarter of the page's size."""
    small = cv2.resize(page, None, fx=1 / _REDUCTION, fy=1 / _REDUCTION, interpolation=cv2.INTER_AREA)
    window = np.ones((_WINDOW, _WINDOW), np.uint8)
    bright = cv2.medianBlur(cv2.dilate(small, window), 5).astype(np.float32) + 1.0
    level = bright.mean(axis=2)
    texture = (cv2.dilate(level, window) - cv2.erode(level, window)) / level
    tint = bright / (3.0 * level[..., None])
    lit = level >= np.percentile(level, 80)
    like_paper = np.abs(tint - np.median(tint[lit], axis=0)).max(axis=2) < _MAX_CHROMA
    paper = _touching_edge(like_paper & (texture < _MAX_TEXTURE) & ~_find_steps(level))
    if not paper.any():
        return np.ones_like(level)
    # Each spot takes the light of the paper near it, the nearer the more.
    known = paper.astype(np.float32)
    full = float(np.percentile(level[paper], 90))
    around = _spread(known * level) + _FAINT * full
    light = np.where(paper, level, around / (_spread(known) + _FAINT)) / full
    smooth = cv2.GaussianBlur(light.astype(np.float32), (0, 0), 2.0)
    return np.asarray(np.clip(smooth, _DARKEST, 1.0), dtype=np.float32)


def _keep_deep_shadows(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ignores shadows that are nowhere deep: most of them are pale grounds of pictures."""
    num_parts, parts = cv2.connectedComponents((light < _SHADED).astype(np.uint8))
    deep = np.zeros(num_parts, dtype=bool)
    deep[parts[light < _WORTH_IT]] = True
    deep[0] = False
    return np.where(deep[parts], light, np.float32(1.0))


def _find_steps(level: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Finds where the level jumps at once, as at the rim of a pale picture; a steep shadow goes on falling."""
    steps = np.zeros(level.shape, dtype=bool)
    for axis in (0, 1):
        jump = np.abs(np.diff(level, axis=axis, prepend=level.take([0], axis))) / level
        places, last = np.arange(level.shape[axis]), level.shape[axis] - 1
        before, behind = (jump.take((places + by).clip(0, last), axis) for by in (-_STEP_REACH, _STEP_REACH))
        nearby = np.maximum(before, behind)
        steps |= (jump > _MIN_STEP) & (nearby < 0.5 * jump)
    return np.asarray(cv2.dilate(steps.astype(np.uint8), np.ones((3, 3), np.uint8)) == 1)


def _spread(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), _SPREAD))


def _touching_edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keeps the connected components of a mask that touch the picture's edge."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.asarray(np.isin(labels, np.setdiff1d(edge, [0])))
