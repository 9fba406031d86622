"""Captions found among the lines of a page, and matched to the pictures around them by their place."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.captions import Caption, is_caption_start, parse_caption, split_parts
from components.data_processing.textbook_pairs.layout import Region
from components.data_processing.textbook_pairs.ocr import Line
from components.data_processing.textbook_pairs.references import mentions, split_sentences
from components.data_processing.textbook_pairs.text import join_lines, room_after
from pathoflow.images import language_of

# Distances of the middles of two lines, in heights of a line.
_SAME_ROW = 0.4
_TIGHT_PITCH = 1.3
_MAX_PITCH = 1.6
_STEADY_PITCH = 1.3
_MAX_WORD_GAP = 3.0
_SAME_HEIGHT = 1.6
_BESIDE_PENALTY = 1.5
_ABOVE_PENALTY = 2.0
_MIN_WALL_SHARE = 0.3
# An unnumbered title stands this share of a numbered caption's reach from its picture, at most.
_TITLE_REACH = 0.6
_MAX_TITLE_LINES = 4
_MAX_TITLE_SENTENCES = 2
_UNTOLD_REACH = 0.35
_SIDE_BY_SIDE = 0.5
_SAME_GRID = 0.8
_TABLE_TITLE = re.compile(
    r"^\W*(?:tab(?:le|\.)|表)\s*\d[\d.-]*[A-Z]?\s?[.:、]?\s*(?=[A-Z一-鿿])(?![所显]?示)", re.IGNORECASE
)
_NOT_OF_A_FIGURE = re.compile(r"^\W*(?:tab(?:le)?\b|表\s*\d|box\b|scheme\b|source\b)", re.IGNORECASE)


@dataclass(frozen=True)
class CaptionBlock:
    """A caption on a page: what it says, where it stands, and the lines it is made of."""

    caption: Caption
    box: Box
    lines: tuple[Line, ...]


def find_captions(lines: Sequence[Line], regions: Sequence[Region]) -> list[CaptionBlock]:
    """The captions among the lines of a page, each grown downwards from the line that begins it."""
    blocks: list[CaptionBlock] = []
    starts = [line for line in sorted(lines, key=lambda line: line.box.y0) if is_caption_start(line.text)]
    for start in starts:
        taken = {line for block in blocks for line in block.lines}
        if any(_goes_on(line, start) for line in lines if line not in taken):
            continue
        others = [line for line in lines if line not in starts and not _is_under(line, starts, start)]
        block = _grown(start, others, regions)
        caption = parse_caption(_caption_text(block))
        if caption is not None:
            blocks.append(CaptionBlock(caption, union(line.box for line in block), tuple(block)))
    return blocks


def match(
    captions: Sequence[CaptionBlock], pictures: Sequence[Box], lines: Sequence[Line], max_distance_px: float
) -> list[list[Box]]:
    """The pictures of each caption.

    First every caption that can have a picture gets one, such that the sum of their distances is least (an assignment
    problem): captions stand below their figure as a rule, and one above or beside must be nearer. Then each picture
    that is left goes to the nearest caption or figure that nothing separates from it.

    Args:
        captions: The page's captions.
        pictures: Boxes that may hold figures, and others that may bear a caption (charts).
        lines: All lines of the page but panel labels; body text between a picture and a caption parts them.
        max_distance_px: Largest gap between a picture and its caption.
    """
    body = [line.box for line in lines if all(line not in block.lines for block in captions)]
    walls = body + [block.box for block in captions]
    matched: list[list[Box]] = [[] for _ in captions]
    if not captions or not pictures:
        return matched
    costs = np.array(
        [[_cost(picture, [block.box], walls, max_distance_px) for picture in pictures] for block in captions],
        dtype=np.float64,
    )
    possible = np.isfinite(costs)
    # A pair that cannot be costs more than all others together: as many captions as can be get a picture.
    costs[~possible] = 1e9
    waiting = dict.fromkeys(pictures)

    def reach_of(block: CaptionBlock) -> float:
        """How far apart panels of one figure stand: little, where the caption does not tell of panels."""
        return max_distance_px * (1.0 if block.caption.parts else _UNTOLD_REACH)

    for at, number in zip(*linear_sum_assignment(costs), strict=True):
        if possible[at, number]:
            matched[int(at)].append(pictures[int(number)])
            waiting.pop(pictures[int(number)], None)
    # Rows of panels: a picture may reach its caption through another one that has already found it.
    while waiting:
        best = min(
            (
                (cost, at, picture)
                for picture in waiting
                for at, block in enumerate(captions)
                if matched[at]
                and math.isfinite(cost := _cost(picture, [block.box, *matched[at]], walls, reach_of(block)))
                and not _swallows(union([picture, *matched[at]]), pictures, captions, matched, at)
            ),
            default=None,
        )
        if best is None:
            break
        _, at, picture = best
        matched[at].append(picture)
        del waiting[picture]
    return matched


def _swallows(
    whole: Box,
    pictures: Sequence[Box],
    captions: Sequence[CaptionBlock],
    matched: Sequence[Sequence[Box]],
    at: int,
) -> bool:
    """Whether a figure as large as this would cover another's pictures or caption."""
    others = [picture for number, group in enumerate(matched) if number != at for picture in group]
    others += [block.box for block in captions]
    return any(other.share_in(whole) > 0.5 for other in others)


def find_titles(
    lines: Sequence[Line],
    regions: Sequence[Region],
    captions: Sequence[CaptionBlock],
    pictures: Sequence[Box],
    max_distance_px: float,
) -> list[tuple[CaptionBlock, list[Box]]]:
    """Captions without a number, each with its pictures: what the layout model takes for a figure's caption.

    Only where the place leaves no doubt: one picture right above or below, nothing between, no other caption as near.
    A caption of several parts may have as many pictures, side by side.

    Args:
        lines: All lines of the page but panel labels.
        regions: What the layout model found.
        captions: The page's numbered captions.
        pictures: Pictures without one.
        max_distance_px: Largest gap between a picture and a numbered caption; a title stands nearer.
    """
    taken = [line for block in captions for line in block.lines]
    blocks: list[CaptionBlock] = []
    for region in sorted((r for r in regions if r.kind == "figure_caption"), key=lambda r: (-r.confidence, r.box)):
        own = [line for line in lines if line not in taken and line.box.share_in(region.box) > 0.5]
        own.sort(key=lambda line: (line.box.y0, line.box.x0))
        if own:
            # The region may end before the caption does, or run on into the body.
            others = [line for line in lines if line not in taken and line is not own[0]]
            own = _grown(own[0], others, [r for r in regions if r.kind != "figure_caption"])
        if (
            not own
            or len(own) > _MAX_TITLE_LINES
            or _NOT_OF_A_FIGURE.match(own[0].text)
            or not re.search(r"[^\W\d]{2}", own[0].text)
        ):
            continue
        text = _caption_text(own)
        title, parts = split_parts(text)
        if mentions(text) or (not parts and len(split_sentences(text)) > _MAX_TITLE_SENTENCES):
            # A paragraph of the body, which the model took for a caption.
            continue
        blocks.append(CaptionBlock(Caption("", title, parts), union(line.box for line in own), tuple(own)))
        taken += own
    walls = [line.box for line in lines] + [block.box for block in captions]
    titles: list[tuple[CaptionBlock, list[Box]]] = []
    for block in blocks:
        near = [
            picture
            for picture in pictures
            if picture.overlap_x(block.box) > 0.5
            and max(block.box.y0 - picture.y1, picture.y0 - block.box.y1) < _TITLE_REACH * max_distance_px
            and not _parted(picture, block.box, [wall for wall in walls if wall.share_in(block.box) < 0.5])
        ]
        if not near or not _in_a_row(near) or len(near) > max(len(block.caption.parts), 1):
            continue
        group = _with_neighbours(near, pictures, len(block.caption.parts), _TITLE_REACH * max_distance_px, walls)
        if not any(picture in other for _, other in titles for picture in group):
            titles.append((block, group))
    return titles


def _in_a_row(pictures: Sequence[Box]) -> bool:
    return all(a.overlap_y(b) > _SIDE_BY_SIDE for a, b in pairwise(pictures))


def _with_neighbours(
    near: Sequence[Box], pictures: Sequence[Box], num_wanted: int, reach_px: float, walls: Sequence[Box]
) -> list[Box]:
    """The pictures next to a caption, with others that stand in one grid with them, up to a number."""
    group = list(near)
    while len(group) < num_wanted:
        beyond = [
            (distance, picture)
            for picture in pictures
            if picture not in group
            for member in group
            if (distance := _gap(picture, member, is_caption=False)) is not None
            and distance < reach_px
            and max(picture.overlap_x(member), picture.overlap_y(member)) > _SAME_GRID
            and not _parted(picture, member, walls)
        ]
        if not beyond:
            break
        group.append(min(beyond)[1])
    return group


def find_table_titles(lines: Sequence[Line]) -> list[Line]:
    """The lines that begin the title of a table."""
    starts = [
        line
        for line in lines
        if _TABLE_TITLE.match(line.text) and not re.match(r"^\W*\w+\.?\s*[\d.-]+\s[a-z]", line.text)
    ]
    return [start for start in starts if not any(_goes_on(line, start) for line in lines if line is not start)]


def _caption_text(block: Sequence[Line]) -> str:
    """The text of a caption's lines; a title that has a line of its own ends with a stop."""
    texts = [line.text for line in block]
    if len(block) > 1 and room_after(block, 0) > 0 and texts[0][-1].isalnum():
        texts[0] += "。" if language_of(texts[0]) == "zh" else "."
    return join_lines(texts)


def _grown(start: Line, others: Sequence[Line], regions: Sequence[Region]) -> list[Line]:
    """The lines of the caption that begins with `start`, in reading order.

    Boxes of lines are too rough to tell the space between them; the distance of their middles is not.
    """
    rows = [[start]]
    for line in sorted(others, key=lambda line: line.box.centre[1]):
        last = union(part.box for part in rows[-1])
        height = float(np.median([part.box.height for row in rows for part in row]))
        pitch = line.box.centre[1] - last.centre[1]
        if abs(pitch) < _SAME_ROW * height:
            # The next column's lines may stand as near as words that are far apart.
            if 0 <= line.box.x0 - last.x1 < _MAX_WORD_GAP * height and not _is_body(line, start, regions):
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
    """Whether a line continues the sentence of the line above it, as in `… as seen in / Figure 7. The ducts …`."""
    height = line.box.height
    near = -0.5 * height < line.box.y0 - above.box.y1 < 0.7 * height and line.box.overlap_x(above.box) > 0.5
    return near and not re.search(r"[.。!?！？:：;；]\W*$", above.text)


def _is_under(line: Line, starts: Sequence[Line], own: Line) -> bool:
    """Whether a line stands in another column than a caption's first line, flush under that of another caption."""
    return line.box.overlap_x(own.box) == 0 and any(
        start.box.y0 < line.box.y0 and abs(start.box.x0 - line.box.x0) < start.box.height
        for start in starts
        if start is not own
    )


def _is_body(line: Line, start: Line, regions: Sequence[Region]) -> bool:
    """Whether the layout model takes a line for body text, and not together with the caption's first line."""
    own = max(
        (r.confidence for r in regions if r.kind == "figure_caption" and line.box.share_in(r.box) > 0.5),
        default=0.0,
    )
    body = max(
        (
            r.confidence
            for r in regions
            if r.kind in ("text", "title") and line.box.share_in(r.box) > 0.7 and start.box.share_in(r.box) < 0.3
        ),
        default=0.0,
    )
    return body > max(own, 0.4)


def _cost(picture: Box, group: Sequence[Box], walls: Sequence[Box], max_distance_px: float) -> float:
    """How far a picture is from a caption or from a picture already matched to it; infinite if it cannot belong."""
    costs = [
        cost
        for at, member in enumerate(group)
        if (cost := _gap(picture, member, is_caption=at == 0)) is not None
        and cost <= max_distance_px * (_ABOVE_PENALTY if at == 0 else 1.0)
        and not _parted(picture, member, walls)
    ]
    return min(costs, default=math.inf)


def _gap(picture: Box, member: Box, *, is_caption: bool) -> float | None:
    slack = 0.3 * min(picture.height, member.height)
    if picture.overlap_x(member) > 0.3:
        if picture.y1 <= member.y0 + slack:
            return max(member.y0 - picture.y1, 0.0)
        if picture.y0 >= member.y1 - slack:
            return max(picture.y0 - member.y1, 0.0) * (_ABOVE_PENALTY if is_caption else 1.0)
    if picture.overlap_y(member) > 0.3:
        apart = max(picture.x0 - member.x1, member.x0 - picture.x1, 0.0)
        return apart * _BESIDE_PENALTY
    return None


def _parted(a: Box, b: Box, walls: Sequence[Box]) -> bool:
    """Whether body text or a caption stands between two boxes."""
    low, high = sorted((a, b), key=lambda box: box.y0)
    if low.y1 < high.y0 and low.overlap_x(high) > 0:
        between = Box(max(a.x0, b.x0), low.y1, min(a.x1, b.x1), high.y0)
    else:
        left, right = sorted((a, b), key=lambda box: box.x0)
        between = Box(left.x1, max(a.y0, b.y0), right.x0, min(a.y1, b.y1))
    return any(wall not in (a, b) and wall.share_in(between) > _MIN_WALL_SHARE for wall in walls)
