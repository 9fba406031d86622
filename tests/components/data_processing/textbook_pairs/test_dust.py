from __future__ import annotations

import numpy as np

from components.data_processing.textbook_pairs.dust import without_dust


def test_specks_anywhere_on_a_page_take_the_colour_of_the_paper_around_them() -> None:
    page = np.full((200, 150, 3), (250, 245, 230), dtype=np.uint8)
    page[100:160, 20:24] = 0
    paper = page.copy()
    for y, x in ((0, 0), (63, 63), (64, 127), (127, 64), (199, 149), (30, 128)):
        page[y : y + 2, x : x + 2] = 40
    assert np.array_equal(without_dust(page), paper)
