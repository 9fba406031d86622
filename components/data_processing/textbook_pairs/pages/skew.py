"""Estimates the skew of scanned pages, and rotates pictures."""

from __future__ import annotations

from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

P = TypeVar("P", np.uint8, np.float32)

# Scans are up to 3 degrees off; a best turn at the end of the search would be no peak.
_REACH_DEGREES = 3.5


def estimate_skew(grey: NDArray[np.uint8]) -> float:
    """Estimates the rotation, in degrees counter-clockwise, that makes lines of text horizontal; 0 if upright.

    Turned by the right angle, rows of the page are either dark or empty: the sum of squared differences between
    neighbouring rows is largest.
    """
    small = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    dark = (small < cv2.blur(small, (31, 31)).astype(np.int16) - 15).astype(np.float32)
    # The first, wide search needs no more than a quarter of the pixels.
    narrow = cv2.resize(dark, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    best = 0.0
    for picture, reach, step in ((narrow, _REACH_DEGREES, 0.5), (dark, 0.4, 0.1)):
        steps = round(reach / step)
        turns = [best + step * number for number in range(-steps, steps + 1)]
        best = turns[int(np.argmax([_sharpness(picture, degrees) for degrees in turns]))]
    if abs(best) < 0.15 or abs(best) >= _REACH_DEGREES or _sharpness(dark, best) < 1.05 * _sharpness(dark, 0.0):
        return 0.0
    return round(best, 1)


def _sharpness(dark: NDArray[np.float32], degrees: float) -> float:
    """Returns how much neighbouring rows of a picture differ once it is rotated."""
    return float(np.square(np.diff(rotate(dark, degrees, border=0.0).sum(axis=1))).sum())


def rotate(pixels: NDArray[P], degrees: float, border: float | None = None) -> NDArray[P]:
    """Rotates a picture counter-clockwise; its edge is repeated outside unless `border` is given."""
    height, width = pixels.shape[:2]
    result = cv2.warpAffine(
        pixels,
        rotation_matrix(width, height, degrees),
        (width, height),
        flags=cv2.INTER_CUBIC if border is None else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT,
        borderValue=border or 0.0,
    )
    return cast("NDArray[P]", result)


def rotation_matrix(width: int, height: int, degrees: float) -> NDArray[np.float64]:
    """Returns the affine map `[2, 3]` of pixels that rotates a picture counter-clockwise about its centre."""
    return np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0))
