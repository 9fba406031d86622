"""The generated books say what their truth says."""

from __future__ import annotations

import numpy as np

from bench.books.fonts import load_font
from bench.books.library import _Book, _style


def test_books_with_circled_figures_are_set_in_fonts_that_have_them() -> None:
    books = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        books.append(_Book(rng, _style(rng)))
    circled = [book.style for book in books if book._alphabet == "①"]
    fonts = {font for style in circled for font in (style.body_font, style.caption_font, style.bold)}
    assert len(fonts) > 3
    for name in fonts:
        font = load_font(name, 24)
        # A font draws all that it lacks alike.
        assert bytes(font.getmask("①")) != bytes(font.getmask("\ue123")), name
