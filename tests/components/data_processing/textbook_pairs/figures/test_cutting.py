from __future__ import annotations

import numpy as np

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.captions.parsing import Caption
from components.data_processing.textbook_pairs.figures.cutting import CutFigure, cut_figure
from components.data_processing.textbook_pairs.figures.labels import read_labels
from components.data_processing.textbook_pairs.pages.rendering import Rendering
from components.data_processing.textbook_pairs.pixels import Pixels

SIDE_BY_SIDE = [Box(20, 20, 120, 120), Box(140, 20, 240, 120)]


def cut(boxes: list[Box], parts: dict[str, str], letters: str = "", bridge: Box | None = None) -> CutFigure:
    """Cuts a figure of plain panels; `letters` are what is read in them, one after the other.

    A `bridge` of the panels' colour makes one of those it lies between.
    """
    page = np.full((300, 300, 3), 250, dtype=np.uint8)
    ink = np.zeros((300, 300), dtype=bool)
    if bridge:
        x0, y0, x1, y1 = bridge.pixel_bounds()
        page[y0:y1, x0:x1] = (180, 120, 160)
        ink[y0:y1, x0:x1] = True
    for box in boxes:
        x0, y0, x1, y1 = box.pixel_bounds()
        page[y0:y1, x0:x1] = (180, 120, 160)
        page[y0 + 10 : y0 + 22, x0 + 10 : x0 + 12] = page[y0 + 20 : y0 + 22, x0 + 10 : x0 + 18] = 0
        ink[y0:y1, x0:x1] = True
    answers = iter(letters)

    def read(_: Pixels) -> tuple[str, float]:
        return next(answers, ""), 0.9

    rendering = Rendering(page, page.repeat(2, axis=0).repeat(2, axis=1), 0.0)
    return cut_figure(rendering, ink, boxes, Caption("1", "Title", parts), 40, read)


def test_printed_labels_decide_which_panel_is_which() -> None:
    figure = cut(SIDE_BY_SIDE, {"A": "one", "B": "two"}, "BA")
    assert (figure.names, figure.labels_from, figure.boxes) == (["B", "A"], "labels", SIDE_BY_SIDE)


def test_without_readable_labels_reading_order_decides_and_is_recorded() -> None:
    figure = cut(SIDE_BY_SIDE, {"A": "one", "B": "two"})
    assert (figure.names, figure.labels_from, figure.kept_whole) == (["A", "B"], "order", "")


def test_counts_that_disagree_keep_the_figure_whole() -> None:
    for parts in ({}, dict.fromkeys("ABC", "part")):
        figure = cut(SIDE_BY_SIDE, parts, "AB")
        assert figure.boxes == [Box(20, 20, 240, 120)]
        assert figure.kept_whole == f"2 panels, {len(parts)} parts of the caption"


def test_left_and_right_are_panels_by_their_place() -> None:
    figure = cut(SIDE_BY_SIDE, {"right": "two", "left": "one"})
    assert (figure.names, figure.labels_from) == (["left", "right"], "places")
    stacked = [Box(20, 20, 120, 120), Box(20, 140, 120, 240)]
    assert cut(stacked, {"top": "one", "bottom": "two"}).names == ["top", "bottom"]
    assert cut(stacked, {"left": "one", "right": "two"}).kept_whole == "the panels do not stand left and right"


def test_a_cut_that_cannot_be_seen_is_made_where_labels_on_both_sides_say_so() -> None:
    boxes = [Box(x, y, x + 100, y + 100) for y in (20, 140) for x in (20, 140)]
    bridge, parts = Box(120, 140, 140, 240), dict.fromkeys("ABCD", "part")
    # The labels are read to find the cut, and again to name the panels.
    figure = cut(boxes, parts, "ABCD" * 2, bridge)
    assert (figure.boxes, figure.names, figure.kept_whole) == (boxes, list("ABCD"), "")
    for letters in ("ABC", "ABCC"):
        assert cut(boxes, parts, letters, bridge).kept_whole == "3 panels, 4 parts of the caption"


def touching(letters: str, parts: str, seam_after: int = 0) -> CutFigure:
    """A figure of panels in a row that nothing parts, each with a shape in its corner that is read as its letter.

    Only after so many of them the colour changes.
    """
    width = 110 * len(letters)
    page = np.full((160, width + 40, 3), 250, dtype=np.uint8)
    ink = np.zeros(page.shape[:2], dtype=bool)
    ink[20:140, 20 : 20 + width] = True
    page[ink] = np.random.default_rng(0).integers(100, 180, (int(ink.sum()), 3))
    page[20:140, 20 : 20 + 110 * seam_after] //= 2
    for number in range(len(letters)):
        x0 = 30 + 110 * number
        page[30:42, x0 : x0 + 2] = page[40:42, x0 : x0 + 8 + number] = 0

    def read(shape: Pixels) -> tuple[str, float]:
        bar = int((shape[..., 0] == 0).any(axis=0).sum()) // 2 - 8
        return (letters[bar], 0.95) if 0 <= bar < len(letters) else ("", 0.0)

    rendering = Rendering(page, page.repeat(2, axis=0).repeat(2, axis=1), 0.0)
    whole = Box(20, 20, 20 + width, 140)
    return cut_figure(rendering, ink, [whole], Caption("1", "Title", dict.fromkeys(parts, "part")), 40, read)


def test_panels_without_a_seam_are_cut_where_all_labels_stand_at_their_place() -> None:
    figure = touching("ABC", "ABC")
    assert figure.boxes == [Box(20 + 110 * number, 20, 130 + 110 * number, 140) for number in range(3)]
    assert (figure.names, figure.labels_from) == (["A", "B", "C"], "labels")
    assert touching("AXC", "ABC").kept_whole == "1 panels, 3 parts of the caption"


def test_a_printed_label_that_the_caption_does_not_tell_of_keeps_the_figure_whole() -> None:
    assert touching("ABX", "AB", seam_after=1).names == ["A", "B"]
    assert touching("ABC", "AB", seam_after=1).kept_whole == "3 panels, 2 parts of the caption"


def test_circled_figures_beyond_nine_are_labels_like_any() -> None:
    boxes = [
        Box(20 + 50 * column, 20 + 50 * row, 70 + 50 * column, 70 + 50 * row) for row in (0, 1) for column in range(5)
    ]
    parts = {str(number): "part" for number in range(1, 11)}
    figure = cut([box.expanded(-1) for box in boxes], parts)
    assert figure.names == list(parts)
    assert cut([union(boxes)], parts).kept_whole == "1 panels, 10 parts of the caption"


def test_labels_are_those_shapes_that_stand_at_one_place_of_all_panels() -> None:
    page = np.full((240, 480, 3), 150, dtype=np.uint8)
    panels = [Box(0, 0, 240, 240), Box(240, 0, 480, 240)]
    for box in panels:
        x0 = int(box.x0)
        page[200:220, x0 + 14 : x0 + 16] = page[218:220, x0 + 14 : x0 + 24] = 0
    # A stroke of the left picture alone, nearer to the rim, would be read too.
    page[4:24, 6:8] = page[22:24, 6:16] = 0
    asked: list[Pixels] = []

    def read(shape: Pixels) -> tuple[str, float]:
        asked.append(shape)
        return ("2", "1")[len(asked) - 1], 0.9

    assert read_labels(page, panels, ["1", "2"], read) == ["2", "1"]
