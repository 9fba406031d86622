"""Draws the plots that several stages share: image grids and stacked bars."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from pathoflow.data.image_io import decode, language_of
from pathoflow.data.trainable.image_checks import MAX_PIXELS

_IMAGE_INCHES = 1.7
_LINE_INCHES = 0.115
_CHARACTER_INCHES = 0.055
_GAP_INCHES = 0.15
_SHOWN_PX = 170


def image_grid(
    images: Sequence[bytes], words: Sequence[str], *, columns: int = 6, width: int = 30, lines: int = 5
) -> Figure:
    """Draws encoded images in a grid, each above its caption.

    Args:
        images: Encoded images.
        words: As many texts; line breaks in them are kept.
        columns: Images in a row.
        width: Characters in a line of words.
        lines: Lines shown of each text.
    """
    rows = max(1, -(-len(images) // columns))
    cell = max(_IMAGE_INCHES, width * _CHARACTER_INCHES) + _GAP_INCHES
    step = _IMAGE_INCHES + lines * _LINE_INCHES + 2 * _GAP_INCHES
    total = (cell * columns, step * rows)
    figure = Figure(figsize=total)
    for number, (data, text) in enumerate(zip(images, words, strict=True)):
        row, column = divmod(number, columns)
        left, bottom = column * cell / total[0], 1 - (row * step + _IMAGE_INCHES) / total[1]
        axes = figure.add_axes((left, bottom, _IMAGE_INCHES / total[0], _IMAGE_INCHES / total[1]))
        axes.axis("off")
        # As the models see it.
        axes.imshow(decode(data, max_pixels=MAX_PIXELS).resize((_SHOWN_PX, _SHOWN_PX)))
        below = bottom - _GAP_INCHES / 2 / total[1]
        figure.text(left, below, _wrapped(text, width, lines), fontsize=6, va="top", parse_math=False)
    return figure


def stacked_bars(counts: Mapping[str, Mapping[str, int]], *, unit: str, title: str) -> Figure:
    """Draws a horizontal bar for each name, stacked by kind, with its total.

    Args:
        counts: Number by name, then by kind; the order of the kinds is that of their first appearance.
        unit: Name of the things counted.
        title: Heads the figure.
    """
    names = sorted(counts, reverse=True)
    kinds = list(dict.fromkeys(kind for parts in counts.values() for kind in parts))
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(names)))
    axes = figure.subplots()
    left = [0] * len(names)
    for kind in kinds:
        widths = [counts[name].get(kind, 0) for name in names]
        axes.barh(names, widths, left=left, label=kind)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for name, total in zip(names, left, strict=True):
        axes.annotate(f" {total}", (total, name), va="center")
    axes.set_xlabel(unit)
    axes.set_title(title)
    axes.margins(x=0.12)
    axes.legend()
    return figure


def _wrapped(text: str, width: int, lines: int) -> str:
    # The fonts that matplotlib brings have no Chinese characters.
    shown = text if language_of(text) == "en" else "(Chinese)"
    wrapped = [piece for line in shown.splitlines() for piece in textwrap.wrap(line, width)]
    return "\n".join(wrapped[:lines])
