from __future__ import annotations

import cv2
import numpy as np

from components.data_processing.textbook_pairs.pages.dust import remove_dust


def test_specks_anywhere_on_a_page_take_the_colour_of_the_paper_around_them() -> None:
    shade = np.add.outer(np.arange(200) // 2, np.arange(150) // 2)
    page = np.stack([80 + shade, 70 + shade, 60 + shade], axis=2).astype(np.uint8)
    page[100:160, 20:24] = 0
    clean = page.copy()
    specks = np.zeros(page.shape[:2], dtype=np.uint8)
    for y, x in ((0, 0), (63, 63), (64, 127), (127, 64), (199, 149), (30, 128)):
        specks[y : y + 2, x : x + 2] = 1
    page[specks == 1] = 20
    around = cv2.dilate(specks, np.ones((3, 3), np.uint8)) == 1
    clean[around] = cv2.medianBlur(page, 9)[around]
    assert np.array_equal(remove_dust(page), clean)
