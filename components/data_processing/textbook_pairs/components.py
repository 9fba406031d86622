"""Connected parts of a mask."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Labels: TypeAlias = NDArray[np.int32]


def parts_of(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> tuple[Labels, NDArray[np.int32]]:
    """The parts of a mask whose pixels touch at a side or a corner.

    Returns:
        The number of the part that each pixel belongs to, 0 for none; and for each part, with the rest of the mask as
        part 0, the left and the upper edge, the width, the height and the area of it.

    >>> parts_of(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=bool))[1].tolist()
    [[0, 0, 3, 4, 9], [0, 0, 2, 2, 2], [2, 3, 1, 1, 1]]
    """
    # OpenCV's default takes two and a half times as long where statistics are asked for.
    _, labels, statistics, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask.astype(np.uint8, copy=False), 8, cv2.CV_32S, cv2.CCL_GRANA
    )
    return labels, statistics
