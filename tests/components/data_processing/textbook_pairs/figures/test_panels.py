from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data_processing.textbook_pairs.boxes import Box, reading_order
from components.data_processing.textbook_pairs.figures.labels import assign_labels
from components.data_processing.textbook_pairs.figures.panels import find_panels, xy_cut

SIDES = st.lists(st.integers(20, 60), min_size=1, max_size=4)


def grid(widths: list[int], heights: list[int], gap: int) -> list[Box]:
    """Panels of a grid with gaps, in reading order."""
    panels = []
    y = gap
    for height in heights:
        x = gap
        for width in widths:
            panels.append(Box(x, y, x + width, y + height))
            x += width + gap
        y += height + gap
    return panels


def picture(panels: list[Box], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Panels of different colours on white paper with specks of dust, and where they are."""
    rng = np.random.default_rng(seed)
    height, width = int(max(box.y1 for box in panels)) + 5, int(max(box.x1 for box in panels)) + 5
    pixels = np.full((height, width, 3), 250, dtype=np.uint8)
    ink = rng.random((height, width)) < 0.002
    for number, panel in enumerate(panels):
        x0, y0, x1, y1 = panel.pixel_bounds()
        colour = rng.integers(40, 200, 3) // 2 + 50 * (number % 2)
        texture = rng.normal(0, 12, (y1 - y0, x1 - x0, 1))
        pixels[y0:y1, x0:x1] = (colour + texture).clip(0, 255)
        ink[y0:y1, x0:x1] = True
    return pixels, ink


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, st.integers(4, 12), st.integers(0, 1000))
def test_a_grid_with_gutters_is_cut_at_them(widths: list[int], heights: list[int], gap: int, seed: int) -> None:
    panels = grid(widths, heights, gap)
    pixels, ink = picture(panels, seed)
    found = find_panels(pixels, ink, 0, min_panel_px=15)
    assert len(found) == len(panels)
    assert all(box.iou(panel) > 0.85 for box, panel in zip(found, panels, strict=True))


def test_rows_of_unequal_panels_are_read_row_by_row() -> None:
    panels = [Box(5, 5, 65, 45), Box(75, 5, 205, 45), Box(5, 55, 105, 95), Box(115, 55, 205, 95)]
    found = find_panels(*picture(panels, 0), 4, min_panel_px=15)
    assert [box.iou(panel) > 0.9 for box, panel in zip(found, panels, strict=True)] == [True] * 4


def test_panels_that_touch_are_cut_at_their_seams_only_when_the_caption_tells_of_them() -> None:
    panels = [Box(5, 5, 95, 85), Box(95, 5, 205, 85), Box(205, 5, 290, 85)]
    pixels, ink = picture(panels, 3)
    assert len(find_panels(pixels, ink, 0, min_panel_px=30)) == 1
    found = find_panels(pixels, ink, 3, min_panel_px=30)
    assert all(box.iou(panel) > 0.9 for box, panel in zip(found, panels, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_a_thin_black_rule_parts_panels_and_a_printed_label_does_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(90, 25, (240, 500, 3)), 0, 255).astype(np.uint8)
    pixels[:30, 60:90] = 0
    ink = np.ones((240, 500), dtype=bool)
    assert len(find_panels(pixels, ink, 2, min_panel_px=40)) == 1
    pixels[:, 180:182] = 2
    left, right = find_panels(pixels, ink, 2, min_panel_px=40)
    assert abs(left.x1 - 181) < 4
    assert abs(right.x0 - 181) < 4


@pytest.mark.parametrize("seed", range(4))
def test_dark_panels_that_hardly_differ_are_cut_at_their_seam(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(14, 2, (200, 400, 3)), 0, 255)
    pixels[:, 200:] += 2.0
    for x, y in rng.integers((10, 10), (180, 190), (20, 2)).tolist():
        for middle in (x, x + 200):
            cv2.circle(pixels, (middle, y), 8, (36, 44, 150), -1)
    ink = np.ones((200, 400), dtype=bool)
    left, right = find_panels(pixels.astype(np.uint8), ink, 2, min_panel_px=40)
    assert abs(left.x1 - 200) < 5
    assert abs(right.x0 - 200) < 5


def test_one_picture_without_seams_stays_whole() -> None:
    pixels, ink = picture([Box(5, 5, 205, 105)], 1)
    assert len(find_panels(pixels, ink, 3, min_panel_px=30)) == 1


def test_a_panel_that_falls_apart_is_joined_to_what_the_caption_tells_of() -> None:
    # The left photograph shows two things on white paper.
    parts = [Box(5, 5, 45, 105), Box(49, 5, 105, 105), Box(125, 5, 225, 105)]
    found = find_panels(*picture(parts, 2), 2, min_panel_px=15)
    assert [tuple(map(round, box)) for box in found] == [(5, 5, 105, 105), (125, 5, 225, 105)]


def test_panels_that_a_caption_does_not_tell_of_are_not_joined_to_others() -> None:
    panels = grid([80, 80, 80], [70], 8)
    assert len(find_panels(*picture(panels, 1), 2, min_panel_px=15)) == 3
    touching = [Box(5, 5, 95, 85), Box(95, 5, 185, 85), Box(185, 5, 275, 85)]
    assert len(find_panels(*picture(touching, 3), 2, min_panel_px=15)) == 3


@given(st.integers(0, 10_000))
def test_xy_cut_loses_no_ink(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ink = np.zeros((60, 80), dtype=bool)
    for _ in range(4):
        x, y = rng.integers(0, 60), rng.integers(0, 40)
        ink[y : y + 20, x : x + 20] = True
    covered = np.zeros_like(ink)
    for box in xy_cut(ink):
        x0, y0, x1, y1 = box.pixel_bounds()
        covered[y0:y1, x0:x1] = True
    assert not (ink & ~covered).any()


@given(SIDES, SIDES, st.randoms())
def test_reading_order_of_a_grid_is_row_by_row(widths: list[int], heights: list[int], random: object) -> None:
    panels = grid(widths, heights, 8)
    shuffled = list(panels)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reading_order(shuffled, lambda box: box, columns_first=False) == panels


def test_two_columns_under_a_heading_are_read_one_after_the_other() -> None:
    heading = Box(0, 0, 200, 12)
    left = [Box(0, y, 90, y + 10) for y in range(30, 120, 15)]
    right = [Box(110, y, 200, y + 10) for y in range(30, 120, 15)]
    mixed = [line for pair in zip(right, left, strict=True) for line in pair]
    assert reading_order([*mixed, heading], lambda box: box, columns_first=True) == [heading, *left, *right]


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (["", "", "", ""], "ABCD"),
        (["D", "C", "B", "A"], "DCBA"),
        (["", "C", "", ""], "ACBD"),
        (["C", "", "", ""], "ABCD"),
        (["B", "B", "C", ""], "ABCD"),
    ],
)
def test_one_letter_read_wrongly_does_not_shift_the_labels(read: list[str], expected: str) -> None:
    two_by_two = [0, 2, 1, 3]
    assert assign_labels(read, "ABCD", two_by_two) == list(expected)
