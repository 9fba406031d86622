"""Grids of panels that a figure without visible gutters may be."""

from __future__ import annotations

import numpy as np
import pytest

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.figures.grids import candidate_grids


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 180, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "num_panels", "rows"),
    [
        (100, 400, 3, (3,)),
        (400, 120, 3, (1, 1, 1)),
        (200, 420, 6, (3, 3)),
        (300, 320, 4, (2, 2)),
        (220, 320, 3, (1, 2)),
    ],
)
def test_panels_of_the_most_usual_shape_come_first(
    height: int, width: int, num_panels: int, rows: tuple[int, ...]
) -> None:
    first = next(candidate_grids(noise(height, width), num_panels, 20))
    tops = sorted({box.y0 for box in first})
    assert tuple(sum(box.y0 == top for box in first) for top in tops) == rows
    assert sum(box.area for box in first) == height * width


def test_after_the_even_grid_comes_the_one_with_its_cut_at_the_seam() -> None:
    figure = noise(150, 400)
    figure[:, 180:] //= 2
    even, moved, *_ = candidate_grids(figure, 2, 20)
    assert even == [Box(0, 0, 200, 150), Box(200, 0, 400, 150)]
    assert moved[0].x1 == pytest.approx(180, abs=2)
    # A seam far from its place in the grid is none of it.
    figure = noise(150, 400)
    figure[:, 60:] //= 2
    _, moved, *_ = candidate_grids(figure, 2, 20)
    assert moved[0].x1 > 150


def test_no_panel_is_smaller_than_the_least() -> None:
    assert not list(candidate_grids(noise(60, 60), 6, 40))
