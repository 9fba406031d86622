from __future__ import annotations

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.captions.blocks import find_captions
from components.data_processing.textbook_pairs.captions.matching import match_captions
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.text.ocr import Line


def lines(*rows: tuple[float, float, float, str]) -> list[Line]:
    """Lines of 20 px height from (x0, y0, x1, text)."""
    return [Line(Box(x0, y0, x1, y0 + 20), text) for x0, y0, x1, text in rows]


def groups(page: list[Line], pictures: list[Box], reach_px: float) -> list[list[Box]]:
    """The pictures of each caption of a page of which the layout model tells nothing."""
    return [group for _, group in match_captions(find_captions(page, []), pictures, page, [], reach_px)]


def test_a_caption_takes_its_following_lines_and_leaves_the_body() -> None:
    page = lines(
        (100, 300, 400, "Fig. 2. Lipoma of the arm"),
        (100, 326, 380, "with thin septa."),
        (100, 390, 400, "The body goes on here."),
    )
    (block,) = find_captions(page, [])
    assert block.caption.title == "Lipoma of the arm with thin septa"
    assert block.box == Box(100, 300, 400, 346)


def test_body_text_that_the_layout_tells_apart_is_no_part_of_a_caption() -> None:
    page = lines((100, 300, 400, "Fig. 2. Lipoma."), (100, 330, 400, "The body goes on here."))
    assert find_captions(page, [])[0].caption.title == "Lipoma. The body goes on here"
    regions = [Region("text", Box(90, 322, 410, 400), 0.9)]
    (block,) = find_captions(page, regions)
    assert block.caption.title == "Lipoma"


def test_a_sentence_that_reaches_a_figure_at_a_line_start_is_no_caption() -> None:
    page = lines((100, 300, 400, "as may be seen in"), (100, 326, 400, "Figure 2. The fat is yellow."))
    assert find_captions(page, []) == []


def test_each_picture_goes_to_the_caption_below_it() -> None:
    page = lines((100, 210, 300, "Fig. 1. Above"), (100, 430, 300, "Fig. 2. Below"))
    first, second = Box(100, 50, 300, 200), Box(100, 250, 300, 420)
    assert groups(page, [first, second], 80) == [[first], [second]]


def test_a_caption_beside_its_picture_is_found() -> None:
    page = lines((320, 100, 600, "Fig. 1. Beside"))
    picture = Box(100, 50, 300, 200)
    assert groups(page, [picture], 80) == [[picture]]


def test_rows_of_panels_reach_their_caption_through_each_other() -> None:
    page = lines((100, 420, 400, "Fig. 1. Four panels"))
    panels = [Box(x, y, x + 140, y + 180) for y in (20, 220) for x in (100, 260)]
    (group,) = groups(page, panels, 90)
    assert sorted(group) == sorted(panels)


def test_body_text_between_parts_a_picture_from_a_caption() -> None:
    page = lines((100, 205, 400, "Body text between the two."), (100, 250, 300, "Fig. 1. Too far"))
    assert groups(page, [Box(100, 50, 300, 200)], 80) == [[]]


def test_captions_above_their_pictures_are_told_by_all_of_them_together() -> None:
    # The second caption stands nearer to the first picture; but then the first would have none.
    page = lines((100, 20, 300, "Fig. 1. First"), (100, 216, 300, "Fig. 2. Second"))
    first, second = Box(100, 50, 300, 200), Box(100, 260, 300, 420)
    assert groups(page, [first, second], 80) == [[first], [second]]


def test_two_figures_side_by_side_keep_their_panels() -> None:
    page = lines((0, 120, 190, "Fig. 1. Left figure"), (210, 120, 400, "Fig. 2. Right figure"))
    panels = [Box(x, 0, x + 90, 100) for x in (0, 100, 210, 310)]
    assert [sorted(group) for group in groups(page, panels, 60)] == [panels[:2], panels[2:]]


def test_a_picture_does_not_reach_a_caption_across_another_figures_caption() -> None:
    page = lines((0, 120, 200, "Fig. 1. Upper"), (0, 320, 200, "Fig. 2. Lower"))
    upper, lower = Box(0, 0, 200, 110), Box(0, 160, 200, 310)
    assert groups(page, [lower, upper], 200) == [[upper], [lower]]


def test_captions_side_by_side_keep_their_own_lines() -> None:
    page = lines(
        (100, 300, 290, "Fig. 1. Lipoma of the"),
        (310, 306, 500, "Fig. 2. Naevus of the"),
        (100, 326, 290, "arm with thin"),
        (310, 330, 500, "back with pigment"),
        (100, 352, 160, "septa."),
        (310, 354, 400, "and nests."),
    )
    titles = {block.caption.number: block.caption.title for block in find_captions(page, [])}
    assert titles == {"1": "Lipoma of the arm with thin septa", "2": "Naevus of the back with pigment and nests"}


def test_a_wide_space_stands_behind_the_number_of_a_figure_only() -> None:
    (block,) = find_captions(lines((100, 300, 170, "Fig. 1."), (220, 300, 400, "Lipoma of the arm")), [])
    assert block.caption.title == "Lipoma of the arm"
    page = lines((100, 300, 300, "Fig. 1. Lipoma of the arm"), (350, 300, 500, "Naevus of the back"))
    (block,) = find_captions(page, [])
    assert block.caption.title == "Lipoma of the arm"


def test_a_picture_far_from_a_figure_that_has_no_panels_is_none_of_it() -> None:
    page = lines((100, 20, 300, "Fig. 1. Lipoma"))
    near, far = Box(100, 50, 300, 200), Box(100, 250, 300, 400)
    assert groups(page, [near, far], 94) == [[near]]


def test_a_short_caption_at_the_edge_of_its_column_reaches_a_picture_set_in_from_there() -> None:
    page = lines((56, 266, 122, "Fig. 25. Naevus"), (56, 704, 287, "Fig. 26. Lipoma of the kidney."))
    upper, lower = Box(103, 287, 357, 472), Box(83, 502, 376, 697)
    assert groups(page, [upper, lower], 90) == [[upper], [lower]]


def test_a_picture_with_a_title_of_its_own_does_not_go_to_its_numbered_neighbour() -> None:
    page = lines((0, 210, 190, "Hyperplasia of the liver."), (210, 210, 400, "Fig. 3. Lipoma."))
    left, right = Box(0, 0, 200, 200), Box(210, 0, 410, 200)
    regions = [Region("figure_caption", Box(0, 210, 190, 230), 0.9)]
    found = match_captions(find_captions(page, []), [left, right], page, regions, 90)
    assert [(block.caption.title, group) for block, group in found] == [
        ("Lipoma", [right]),
        ("Hyperplasia of the liver", [left]),
    ]
