"""Shadows and dust are removed from a page before anything is searched on it, and nothing else is."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components.data_processing.textbook_pairs.pages.dust import remove_dust
from components.data_processing.textbook_pairs.pages.shadows import remove_shadows
from components.data_processing.textbook_pairs.pixels import Pixels
from tests.components.data_processing.textbook_pairs.conftest import ENGLISH


def paper(width: int = 840, height: int = 1176) -> Pixels:
    return np.full((height, width, 3), (246, 242, 230), dtype=np.uint8)


def corner_shadow(page: Pixels) -> Pixels:
    across, down = np.linspace(1, 0, page.shape[1]), np.linspace(1, 0, page.shape[0])
    return np.asarray((page * (1 - 0.25 * np.outer(down, across))[..., None]).astype(np.uint8))


def test_a_shadow_that_is_not_deep_anywhere_but_in_a_corner_is_lifted() -> None:
    page = corner_shadow(paper())
    lit = remove_shadows(page)
    assert page[8, 8, 0] < 190
    assert lit[8:1100:40, 8:800:40].min(axis=2).min() > 220


def test_a_pale_picture_is_no_shadow() -> None:
    page = paper()
    # Of the paper's own tint and little darker, without texture, as the ground of a smear is.
    page[600:1000, 100:740] = (219, 215, 205)
    assert (remove_shadows(page) == page).all()
    lit = remove_shadows(corner_shadow(page))
    assert lit[590, 400].astype(int).min() - lit[610, 400].astype(int).min() > 10


def test_a_ground_that_is_hardly_darker_is_left_where_a_shadow_elsewhere_is_lifted() -> None:
    down, across = np.mgrid[-1:1:1176j, -1:1:840j]
    pale = 1 - 0.05 * np.exp(-(((down - 0.4) / 0.3) ** 2 + (across / 0.4) ** 2))
    spine = 1 - 0.4 * np.exp(-np.arange(840) / 40)
    page = (paper() * (pale * spine)[..., None]).astype(np.uint8)
    lit = remove_shadows(page)
    assert lit[600, 20, 0] > page[600, 20, 0] + 20
    change = lit[780:860, 380:460].astype(int) - page[780:860, 380:460]
    assert np.abs(change).max() <= 1


def test_dust_goes_and_print_stays() -> None:
    clean = Image.fromarray(paper())
    ImageDraw.Draw(clean).text((80, 100), "i. e. Fig. 3: mitoses; rare.", font=ImageFont.truetype(str(ENGLISH), 22))
    page = np.asarray(clean).copy()
    # The letter i, as small as it comes.
    page[60:72, 300:302] = page[55:57, 300:302] = 40
    assert (remove_dust(page) == page).all()
    rng = np.random.default_rng(1)
    dusty = page.copy()
    for x, y in rng.integers(200, 800, (300, 2)).tolist():
        dusty[y : y + 2, x : x + 2] = 60
    assert (remove_dust(dusty) != page).any(axis=2).mean() < 0.0005
