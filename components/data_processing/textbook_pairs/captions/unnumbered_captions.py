"""Finds captions without a number by the layout model's regions, by the panels they name, or by their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.captions.blocks import CaptionBlock, caption_text, grow_caption
from components.data_processing.textbook_pairs.captions.parsing import PLACES, Caption, split_parts
from components.data_processing.textbook_pairs.captions.proximity import gap, is_separated
from components.data_processing.textbook_pairs.captions.references import mentions
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.text.ocr import Line
from components.data_processing.textbook_pairs.text.paragraphs import split_sentences

# A title stands this share of a numbered caption's reach from its picture, at most.
_REACH = 0.6
_MAX_LINES = 4
_MAX_SENTENCES = 2
_MAX_LINES_OF_PARTS = 7
_SIDE_BY_SIDE = 0.5
_SAME_ROW = 0.4
_SAME_GRID = 0.8
# How much nearer a title must be to one of two pictures, above and below it.
_NEARER = 2.0
# A line that nothing marks is a title if it stands so near to its picture, and nothing else so near, in heights.
_CLOSE = 1.2
_ALONE = 1.5
_TIGHT_PITCH = 1.5
_MAX_LINES_UNMARKED = 2
_NOT_OF_A_FIGURE = re.compile(r"^\W*(?:tab(?:le)?\b|表\s*\d|box\b|scheme\b|source\b)", re.IGNORECASE)
_OTHER_KINDS = frozenset({"title", "header", "footer", "table_caption"})


def find_unnumbered_captions(
    lines: Sequence[Line],
    regions: Sequence[Region],
    captions: Sequence[CaptionBlock],
    pictures: Sequence[Box],
    max_distance_px: float,
) -> list[tuple[CaptionBlock, list[Box]]]:
    """Finds captions without a number, each with its pictures.

    They are what the layout model takes for a figure's caption, what tells of several panels (`A, … B, …`) right
    above or below a picture, or a line that stands alone under one or in a row with a numbered caption. Only where the
    place leaves no doubt: one picture, nothing between, no other as near. A title of several parts may have as many
    pictures, side by side.

    Args:
        lines: All lines of the page but panel labels.
        regions: The layout model's regions.
        captions: The page's numbered captions.
        pictures: Pictures without one.
        max_distance_px: Largest gap between a picture and a numbered caption; a title stands nearer.
    """
    reach = _REACH * max_distance_px
    taken = [line for block in captions for line in block.lines]
    blocks: list[CaptionBlock] = []
    beside = [block.lines[0].box for block in captions]
    for own in (*_from_layout(lines, regions, taken), *_from_place(lines, regions, taken, pictures, beside, reach)):
        if not any(line in taken for line in own):
            title, parts = split_parts(caption_text(own))
            blocks.append(CaptionBlock(Caption("", title, parts), union(line.box for line in own), tuple(own)))
            taken += own
    separators = [line.box for line in lines] + [block.box for block in captions]
    titles: list[tuple[CaptionBlock, list[Box]]] = []
    for block in blocks:
        near = _nearest_side(
            block.box,
            [
                picture
                for picture in pictures
                if picture.overlap_x(block.box) > 0.5
                and max(block.box.y0 - picture.y1, picture.y0 - block.box.y1) < reach
                and not is_separated(
                    picture, block.box, [other for other in separators if other.covered_by(block.box) < 0.5]
                )
            ],
        )
        if not near or not _in_a_row(near) or len(near) > max(len(block.caption.parts), 1):
            continue
        group = _extend_group(near, pictures, len(block.caption.parts), reach, separators)
        if not any(picture in other for _, other in titles for picture in group):
            titles.append((block, group))
    return titles


def _from_layout(lines: Sequence[Line], regions: Sequence[Region], taken: Sequence[Line]) -> Iterator[list[Line]]:
    """Yields the lines of each caption that the layout model found, the most certain first."""
    for region in sorted((r for r in regions if r.kind == "figure_caption"), key=lambda r: (-r.confidence, r.box)):
        # The region may end before the caption does, or run on into the body.
        own = [
            line
            for line in lines
            if line not in taken and max(line.box.covered_by(region.box), region.box.covered_by(line.box)) > 0.5
        ]
        own.sort(key=lambda line: (line.box.y0, line.box.x0))
        if own:
            others = [line for line in lines if line not in taken and line is not own[0]]
            block = grow_caption(own[0], others, [r for r in regions if r.kind != "figure_caption"])
            if len(block) <= _MAX_LINES and _may_be_title(block):
                yield block


def _from_place(
    lines: Sequence[Line],
    regions: Sequence[Region],
    taken: Sequence[Line],
    pictures: Sequence[Box],
    captions: Sequence[Box],
    reach_px: float,
) -> Iterator[list[Line]]:
    """Yields lines next to a picture that name several panels, stand alone below it or in a row with a caption."""
    free = [line for line in lines if line not in taken and not _is_of_another_kind(line, regions)]
    for picture in pictures:
        column = [line for line in free if line.box.overlap_x(picture) > _SIDE_BY_SIDE]
        below = [line for line in column if -line.box.height / 2 < line.box.y0 - picture.y1 < reach_px]
        above = [line for line in column if -line.box.height / 2 < picture.y0 - line.box.y1 < reach_px]
        blocks = []
        if below:
            start = min(below, key=lambda line: line.box.y0)
            blocks.append(grow_caption(start, [line for line in free if line is not start], regions))
        if above:
            last = max(above, key=lambda line: line.box.y0)
            start = _first_of_block(last, [line for line in column if line.box.y0 < picture.y0])
            blocks.append(grow_caption(start, [line for line in free if line is not start], regions))
        for block in blocks:
            if _may_be_title(block) and (
                _tells_of_panels(block)
                or _stands_alone(union(line.box for line in block), block, picture, lines)
                or (len(block) <= _MAX_LINES and any(_in_one_row(block[0].box, other) for other in captions))
            ):
                yield block


def _first_of_block(last: Line, lines: Sequence[Line]) -> Line:
    """Returns the first line of the block that ends with `last`."""
    first = last
    for line in sorted(lines, key=lambda line: -line.box.y0):
        pitch = first.box.centre[1] - line.box.centre[1]
        if 0 < pitch < _TIGHT_PITCH * min(first.box.height, line.box.height):
            first = line
    return first


def _tells_of_panels(block: Sequence[Line]) -> bool:
    title, parts = split_parts(caption_text(block))
    short = len(block) <= _MAX_LINES_OF_PARTS and len(split_sentences(title)) <= _MAX_SENTENCES
    return short and len(parts) > 1 and not set(parts) <= set(PLACES)


def _stands_alone(box: Box, block: Sequence[Line], picture: Box, lines: Sequence[Line]) -> bool:
    """Checks whether a block is as narrow as the picture above, right under it, and no other line is near."""
    height = block[0].box.height
    inside = picture.x0 - height < box.x0 and box.x1 < picture.x1 + height
    if not inside or len(block) > _MAX_LINES_UNMARKED or not -0.5 < (box.y0 - picture.y1) / height < _CLOSE:
        return False
    around = Box(box.x0, box.y0, box.x1, box.y1 + _ALONE * height)
    return not any(line.box.covered_by(around) > 0 for line in lines if line not in block)


def _in_one_row(line: Box, caption: Box) -> bool:
    """Checks whether a line stands beside the first line of a numbered caption, as for figures side by side."""
    return abs(line.centre[1] - caption.centre[1]) < _SAME_ROW * min(line.height, caption.height)


def _is_of_another_kind(line: Line, regions: Sequence[Region]) -> bool:
    return any(r.kind in _OTHER_KINDS and r.confidence > 0.4 and line.box.covered_by(r.box) > 0.5 for r in regions)


def _may_be_title(block: Sequence[Line]) -> bool:
    """Checks whether lines read like a title, and not like a paragraph of the body."""
    if _NOT_OF_A_FIGURE.match(block[0].text) or not re.search(r"[^\W\d]{2}", block[0].text):
        return False
    text = caption_text(block)
    _, parts = split_parts(text)
    return not mentions(text) and (bool(parts) or len(split_sentences(text)) <= _MAX_SENTENCES)


def _nearest_side(block: Box, pictures: Sequence[Box]) -> list[Box]:
    """Returns the pictures above or below a block, whichever are clearly nearer; all if neither are."""
    above = [picture for picture in pictures if picture.centre[1] < block.centre[1]]
    below = [picture for picture in pictures if picture not in above]
    if not above or not below:
        return list(pictures)
    up = max(min(block.y0 - picture.y1 for picture in above), 1.0)
    down = max(min(picture.y0 - block.y1 for picture in below), 1.0)
    if _NEARER * up <= down:
        return above
    return below if _NEARER * down <= up else list(pictures)


def _in_a_row(pictures: Sequence[Box]) -> bool:
    return all(a.overlap_y(b) > _SIDE_BY_SIDE for a, b in pairwise(pictures))


def _extend_group(
    near: Sequence[Box], pictures: Sequence[Box], num_wanted: int, reach_px: float, separators: Sequence[Box]
) -> list[Box]:
    """Extends the pictures next to a caption by others in one grid with them, up to a number."""
    group = list(near)
    while len(group) < num_wanted:
        beyond = [
            (distance, picture)
            for picture in pictures
            if picture not in group
            for member in group
            if (distance := gap(picture, member, is_caption=False)) is not None
            and distance < reach_px
            and max(picture.overlap_x(member), picture.overlap_y(member)) > _SAME_GRID
            and not is_separated(picture, member, separators)
        ]
        if not beyond:
            break
        group.append(min(beyond)[1])
    return group
