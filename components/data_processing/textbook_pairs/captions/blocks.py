"""Finds captions among the lines of a page: where they begin, and which lines continue them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.captions.parsing import Caption, is_caption_start, parse_caption
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.text.ocr import Line
from components.data_processing.textbook_pairs.text.paragraphs import join_lines, room_after
from pathoflow.data.image_io import language_of

# Distances of the middles of two lines, in heights of a line.
_SAME_ROW = 0.4
_TIGHT_PITCH = 1.3
_MAX_PITCH = 1.6
_STEADY_PITCH = 1.3
_MAX_WORD_GAP = 1.5
_AFTER_NUMBER = 3.0
_LONGEST_NUMBER = 16
_SAME_HEIGHT = 1.6
_TABLE_TITLE = re.compile(
    r"^\W*(?:tab(?:le|\.)|表)\s*\d[\d.-]*[A-Z]?\s?[.:、]?\s*(?=[A-Z一-鿿])(?![所显]?示)", re.IGNORECASE
)


@dataclass(frozen=True)
class CaptionBlock:
    """A caption on a page: its text, its place and its lines."""

    caption: Caption
    box: Box
    lines: tuple[Line, ...]


def find_captions(lines: Sequence[Line], regions: Sequence[Region]) -> list[CaptionBlock]:
    """Finds the captions among the lines of a page, each extended downwards from its first line."""
    blocks: list[CaptionBlock] = []
    starts = [line for line in sorted(lines, key=lambda line: line.box.y0) if is_caption_start(line.text)]
    for start in starts:
        taken = {line for block in blocks for line in block.lines}
        if any(_goes_on(line, start) for line in lines if line not in taken):
            continue
        others = [line for line in lines if line not in starts and not _is_under(line, starts, start)]
        block = grow_caption(start, others, regions)
        caption = parse_caption(caption_text(block))
        if caption is not None:
            blocks.append(CaptionBlock(caption, union(line.box for line in block), tuple(block)))
    return blocks


def find_table_titles(lines: Sequence[Line]) -> list[Line]:
    """Finds the lines that begin the title of a table."""
    starts = [
        line
        for line in lines
        if _TABLE_TITLE.match(line.text) and not re.match(r"^\W*\w+\.?\s*[\d.-]+\s[a-z]", line.text)
    ]
    return [start for start in starts if not any(_goes_on(line, start) for line in lines if line is not start)]


def caption_text(block: Sequence[Line]) -> str:
    """Joins a caption's lines into text; a title on a line of its own ends with a full stop."""
    texts = [line.text for line in block]
    if len(block) > 1 and room_after(block, 0) > 0 and texts[0][-1].isalnum():
        texts[0] += "。" if language_of(texts[0]) == "zh" else "."
    return join_lines(texts)


def grow_caption(start: Line, others: Sequence[Line], regions: Sequence[Region]) -> list[Line]:
    """Returns the lines of the caption that begins with `start`, in reading order.

    Boxes of lines are too rough to tell the space between them; the distance of their middles is not.
    """
    rows = [[start]]
    for line in sorted(others, key=lambda line: line.box.centre[1]):
        last = union(part.box for part in rows[-1])
        height = float(np.median([part.box.height for row in rows for part in row]))
        pitch = line.box.centre[1] - last.centre[1]
        if abs(pitch) < _SAME_ROW * height:
            # The next column's lines may stand as near as words that are far apart.
            # A wide space stands behind the figure's number, if anywhere.
            widest = _AFTER_NUMBER if rows == [[start]] and len(start.text) < _LONGEST_NUMBER else _MAX_WORD_GAP
            if 0 <= line.box.x0 - last.x1 < widest * height and not _is_body(line, start, regions):
                rows[-1].append(line)
            continue
        block = union(part.box for row in rows for part in row)
        alike = max(line.box.height, height) < _SAME_HEIGHT * min(line.box.height, height)
        if pitch < 0 or line.box.overlap_x(block) < 0.5 or not alike:
            continue
        pitches = [after[0].box.centre[1] - before[0].box.centre[1] for before, after in pairwise(rows)]
        if pitch > min([_MAX_PITCH * height, *(_STEADY_PITCH * known for known in pitches)]):
            break
        if pitch > _TIGHT_PITCH * height and _is_body(line, start, regions):
            break
        rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.box.x0)]


def _goes_on(above: Line, line: Line) -> bool:
    """Checks whether a line continues the sentence of the line above, as in `… as seen in / Figure 7. The ducts …`."""
    height = line.box.height
    near = -0.5 * height < line.box.y0 - above.box.y1 < 0.7 * height and line.box.overlap_x(above.box) > 0.5
    return near and not re.search(r"[.。!?！？:：;；]\W*$", above.text)


def _is_under(line: Line, starts: Sequence[Line], own: Line) -> bool:
    """Checks whether a line stands in another column than a caption's first line, flush under another caption."""
    return line.box.overlap_x(own.box) == 0 and any(
        start.box.y0 < line.box.y0 and abs(start.box.x0 - line.box.x0) < start.box.height
        for start in starts
        if start is not own
    )


def _is_body(line: Line, start: Line, regions: Sequence[Region]) -> bool:
    """Checks whether the layout model takes a line for body text, apart from the caption's first line."""
    own = max(
        (r.confidence for r in regions if r.kind == "figure_caption" and line.box.covered_by(r.box) > 0.5),
        default=0.0,
    )
    body = max(
        (
            r.confidence
            for r in regions
            if r.kind in ("text", "title") and line.box.covered_by(r.box) > 0.7 and start.box.covered_by(r.box) < 0.3
        ),
        default=0.0,
    )
    return body > max(own, 0.4)
