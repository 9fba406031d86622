"""A bad scan gives the pairs of a good one: crooked, noisy, in the shadow of the book's spine."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.page_reader import PageReader
from components.data_processing.textbook_pairs.pages.page import Page

CAPTIONS = {
    "A": "Fibroadenoma of the breast. Narrow ducts.",
    "B": "Fibroadenoma of the breast. Wide ducts.",
    "C": "Fibroadenoma of the breast. Myxoid stroma.",
    "D": "Fibroadenoma of the breast. FISH.",
}


@pytest.fixture(scope="module")
def reader() -> PageReader:
    return PageReader(TextbookPairsConfig())


@pytest.mark.parametrize(("more_degrees", "depth", "noise"), [(1.6, 0.45, 12.0), (-4.4, 0.7, 18.0)])
def test_a_bad_scan_gives_the_pairs_of_a_good_one(
    tmp_path: Path, english_page: Image.Image, reader: PageReader, more_degrees: float, depth: float, noise: float
) -> None:
    # The page is off by 1.4 degrees as it comes: 3 in all, this way and that.
    scan = english_page.rotate(more_degrees, Image.Resampling.BICUBIC, fillcolor=(252, 251, 248))
    levels = np.asarray(scan, dtype=np.float64)
    across, down = np.linspace(0, 1, levels.shape[1]), np.linspace(0, 1, levels.shape[0])[:, None]
    light = (depth + (1 - depth) * np.clip(across / 0.3, 0, 1)) * np.where(across + down > 1.6, 0.8, 1.0)
    levels = levels * light[..., None] + np.random.default_rng(0).normal(0, noise, levels.shape)
    path = tmp_path / "page.png"
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(path)
    record, crops = reader.read_figures(Page(path, 0, "page", "book", "page.png"), "0")
    assert record.seen.skew_degrees == pytest.approx(-1.4 - more_degrees, abs=0.2)
    (figure,) = record.figures
    assert figure.number == "3.2"
    assert {panel.label for panel in figure.panels} == set(CAPTIONS)
    for panel in figure.panels:
        assert SequenceMatcher(None, panel.caption, CAPTIONS[panel.label]).ratio() > 0.95
        assert panel.crop in crops
        # Two by two of 330 x 220 px.
        assert 0.85 < panel.box.area / (330 * 220) < 1.25
