"""Captions without a number: by the layout model, by the panels they tell of, by their place."""

from __future__ import annotations

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.captions.blocks import find_captions
from components.data_processing.textbook_pairs.captions.unnumbered_captions import find_unnumbered_captions
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.text.ocr import Line

PICTURE = Box(100, 50, 300, 200)
LEFT, RIGHT = Box(100, 50, 195, 200), Box(205, 50, 300, 200)
MARKED = [Region("figure_caption", Box(95, 205, 305, 235), 0.7)]


def lines(*rows: tuple[float, float, float, str]) -> list[Line]:
    """Lines of 20 px height from (x0, y0, x1, text)."""
    return [Line(Box(x0, y0, x1, y0 + 20), text) for x0, y0, x1, text in rows]


def titles(page: list[Line], regions: list[Region], pictures: list[Box]) -> list[tuple[str, list[Box]]]:
    return [(block.caption.title, group) for block, group in find_unnumbered_captions(page, regions, [], pictures, 80)]


def test_a_line_that_the_layout_marks_is_the_title_of_the_one_picture_next_to_it() -> None:
    page = lines((100, 225, 300, "Lipoma of the arm"), (100, 256, 300, "The body goes on."))
    marked = [Region("figure_caption", Box(95, 222, 305, 247), 0.7), Region("text", Box(95, 250, 305, 290), 0.9)]
    assert titles(page, marked, [PICTURE]) == [("Lipoma of the arm", [PICTURE])]
    assert titles(page, [], [PICTURE]) == []
    assert titles(page, marked, [LEFT, RIGHT]) == []


def test_a_region_narrower_than_its_line_marks_it() -> None:
    page = lines((100, 225, 700, "Lipoma of the arm of an old man"), (100, 256, 300, "The body goes on."))
    narrow = [Region("figure_caption", Box(250, 228, 550, 242), 0.5), Region("text", Box(95, 250, 305, 290), 0.9)]
    wide = Box(100, 50, 700, 200)
    assert titles(page, narrow, [wide]) == [("Lipoma of the arm of an old man", [wide])]


def test_lines_that_tell_of_as_many_panels_need_no_mark() -> None:
    below = lines((100, 210, 300, "Lipoma. (A) Whole. (B) Cut."), (100, 236, 300, "The body goes on here."))
    assert [group for _, group in titles(below, [], [LEFT, RIGHT])] == [[LEFT, RIGHT]]
    above = lines((100, 2, 300, "Lipoma: A, Whole."), (100, 26, 300, "B, Cut."))
    assert [group for _, group in titles(above, [], [PICTURE])] == [[PICTURE]]


def test_a_short_line_right_under_a_picture_with_nothing_near_it_is_its_title() -> None:
    alone = lines((100, 202, 170, "Naevus"), (100, 300, 300, "The body goes on."))
    assert titles(alone, [], [PICTURE]) == [("Naevus", [PICTURE])]
    # As wide as the text, followed by it, too far from the picture, or a heading: body.
    for row in ((100, 202, 420, "Naevus of an arm"), (100, 285, 170, "Naevus"), (100, 230, 170, "Naevus")):
        assert titles(lines(row, (100, 300, 300, "The body goes on.")), [], [PICTURE]) == []
    heading = [Region("title", Box(95, 200, 200, 225), 0.8)]
    assert titles(alone, heading, [PICTURE]) == []


def test_a_line_in_one_row_with_a_numbered_caption_is_the_title_of_the_picture_beside() -> None:
    page = lines((100, 20, 290, "Fig. 1. Lipoma."), (350, 21, 500, "Naevus of the back."))
    captions = find_captions(page, [])
    right = Box(350, 50, 550, 200)
    assert [group for _, group in find_unnumbered_captions(page, [], captions, [right], 80)] == [[right]]
    assert find_unnumbered_captions(page, [], [], [right], 80) == []


def test_a_title_between_two_pictures_belongs_to_the_one_that_is_clearly_nearer() -> None:
    page = lines((100, 203, 300, "Lipoma of the arm."))
    assert titles(page, MARKED, [PICTURE, Box(100, 260, 300, 390)]) == [("Lipoma of the arm", [PICTURE])]
    assert titles(page, MARKED, [PICTURE, Box(100, 227, 300, 390)]) == []


def test_body_text_and_titles_of_tables_are_none() -> None:
    texts = ("The ducts stand out (see Fig. 3-1).", "It is rare. It grows slowly. It recurs.", "Table 3. Ages")
    for text in texts:
        assert titles(lines((100, 210, 300, text)), MARKED, [PICTURE]) == []
