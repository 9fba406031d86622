"""Reads the text layer of a born-digital PDF in place of OCR: faster and exact, if it is sound.

Scans may carry another program's OCR as hidden text, and fonts without a map to Unicode give other letters than they
show. So a page's own text is used only if it covers what the layout model takes for text, holds next to no unknown
characters, and says what OCR reads in a line or two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.pages.listing import PDF_SUFFIX
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.pages.pdfs import Glyph, read_glyphs
from components.data_processing.textbook_pairs.pages.rendering import Rendering
from components.data_processing.textbook_pairs.text.ocr import Line

_MAX_UNKNOWN = 0.02
_MIN_COVERED = 0.8
_MIN_AGREEMENT = 0.8
_CERTAIN_REGION = 0.5
_NUM_SPOT_CHECKS = 2
_MIN_SPOT_LETTERS = 6
_TEXT_KINDS = frozenset({"text", "title", "figure_caption", "table_caption"})
# In heights of a line: farther apart than words of justified text stand columns.
_COLUMN_GAP = 1.5
_WORD_GAP = 0.22
_SAME_ROW = 0.5
_LIGATURE = re.compile("[\ufb00-\ufb06]")
_WIDE = re.compile(r"[⺀-鿿豈-﫿　-〿＀-￯]")


class TextLayer(NamedTuple):
    """The text layer of a page, or why it is not used.

    Attributes:
        lines: The lines in coarse pixels of the upright page; none where it is not used.
        refused: `no_text`, `unknown_characters`, `gaps` or `differs_from_print`; empty for text that is used.
    """

    lines: list[Line]
    refused: str = ""


def find_text_layer(
    page: Page, rendering: Rendering, regions: Sequence[Region], read: Callable[[Box], str]
) -> TextLayer:
    """Reads the text layer of a PDF page, and checks that it is sound.

    Args:
        page: The page.
        rendering: Its rendering; a crooked scan's text is turned with it.
        regions: The layout model's regions of it.
        read: Reads one line by OCR.

    Raises:
        UnreadableImage: The page cannot be read.
    """
    if page.path.suffix.lower() != PDF_SUFFIX:
        return TextLayer([], "no_text")
    glyphs = read_glyphs(page.path, page.index, *rendering.size)
    if not glyphs:
        return TextLayer([], "no_text")
    if sum(not glyph.text for glyph in glyphs) > _MAX_UNKNOWN * len(glyphs):
        return TextLayer([], "unknown_characters")
    lines = join_glyphs([glyph._replace(box=rendering.to_upright(glyph.box)) for glyph in glyphs])
    bodies = [region.box for region in regions if region.kind in _TEXT_KINDS and region.confidence > _CERTAIN_REGION]
    if bodies and sum(_has_text(body, lines) for body in bodies) < _MIN_COVERED * len(bodies):
        return TextLayer([], "gaps")
    if not _agrees(lines, read):
        return TextLayer([], "differs_from_print")
    return TextLayer(lines)


def join_glyphs(glyphs: Sequence[Glyph]) -> list[Line]:
    """Joins characters into lines, from top to bottom; the columns of a page stay apart.

    >>> letters = [Glyph("a", Box(0, 0, 8, 10), False), Glyph("b", Box(8, 0, 16, 10), False)]
    >>> [line.text for line in join_glyphs([*letters, Glyph("c", Box(20, 0, 28, 10), True)])]
    ['ab c']
    """
    runs: list[list[Glyph]] = []
    for glyph in glyphs:
        if not runs or not _follows(runs[-1][-1].box, glyph.box):
            runs.append([])
        runs[-1].append(glyph)
    rows: list[list[Glyph]] = []
    # Words that a file places one by one, out of order, still make one line.
    for run in sorted(runs, key=lambda run: (run[0].box.x0, run[0].box.y0)):
        row = next((row for row in rows if _follows(row[-1].box, run[0].box)), None)
        if row is None:
            rows.append(list(run))
        else:
            row.extend(run)
    lines = [Line(union(glyph.box for glyph in row), _text(row)) for row in rows]
    return sorted((line for line in lines if line.text), key=lambda line: (line.box.y0, line.box.x0))


def _follows(before: Box, box: Box) -> bool:
    """Checks whether a box continues the line of the box before it."""
    if box == before:
        # The letters of a ligature share its box.
        return True
    height = min(before.height, box.height)
    near = -0.5 * height <= box.x0 - before.x1 <= _COLUMN_GAP * height
    return near and before.overlap_y(box) >= _SAME_ROW


def _text(row: Sequence[Glyph]) -> str:
    text = ""
    for at, glyph in enumerate(row):
        gap = at > 0 and glyph.box.x0 - row[at - 1].box.x1 > _WORD_GAP * glyph.box.height
        wide = bool(text) and bool(_WIDE.match(text[-1]) or _WIDE.match(glyph.text))
        space = at > 0 and not wide and (glyph.spaced or gap)
        text += " " + glyph.text if space else glyph.text
    return _LIGATURE.sub(lambda letters: unicodedata.normalize("NFKC", letters[0]), text.strip())


def _has_text(region: Box, lines: Sequence[Line]) -> bool:
    return any(line.box.covered_by(region) > 0.5 for line in lines)


def _agrees(lines: Sequence[Line], read: Callable[[Box], str]) -> bool:
    """Checks whether OCR reads the same in some lines: long ones, spread over the page."""
    checked = [line for line in lines if len(line.text) >= _MIN_SPOT_LETTERS]
    if not checked:
        return False
    usual = float(np.median([line.box.width for line in checked]))
    checked = [line for line in checked if line.box.width >= usual]
    at = np.linspace(0, len(checked) - 1, _NUM_SPOT_CHECKS + 2)[1:-1].round().astype(int)
    return all(_similarity(checked[number].text, read(checked[number].box)) >= _MIN_AGREEMENT for number in set(at))


def _similarity(text: str, reading: str) -> float:
    """Returns how alike two texts are without white space, 0..1."""
    ours, theirs = (re.sub(r"\s+", "", unicodedata.normalize("NFKC", each)).lower() for each in (text, reading))
    return SequenceMatcher(None, ours, theirs, autojunk=False).ratio()
