"""Joins lines of body text into paragraphs, and splits these into sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from components.data_processing.textbook_pairs.boxes import reading_order, union
from components.data_processing.textbook_pairs.text.ocr import Line

_WIDE = re.compile(r"[⺀-鿿豈-﫿　-〿＀-￯]")
_ENDED = re.compile(r"[。.!?！？:：][”’\"')）\]】]*$")
_NEW_PARAGRAPH_GAP = 1.0
_HEADING_ROOM = 0.25

# A full stop ends a sentence unless it belongs to one of these or to an initial.
_ABBREVIATION = re.compile(r"figs?|e\.g|i\.e|vs|cf|al|approx|ca|dr|no|st|etc|resp|refs?|eq")
_BEFORE_A_NAME = re.compile(r"[A-Z].*|.*,|by|and|of|from|with|to|see|in|cf\.|&")
_STOP = re.compile(r"[。!?！？]+[”’\"')）]*|\.+(?=\s+[\"'(\[]*[A-Z0-9一-鿿①-⑳]|(?<=[a-z)\d.]\.)[A-Z][a-z])")


def join_lines(texts: Iterable[str]) -> str:
    """Joins lines into text: Chinese without spaces, English with one, words hyphenated at a line's end made whole.

    >>> join_lines(["分为裂隙", "状管内型"]), join_lines(["fibro-", "adenoma of", "the breast"])
    ('分为裂隙状管内型', 'fibroadenoma of the breast')
    """
    joined = ""
    for text in texts:
        if not joined or not text:
            joined += text
        elif re.search(r"[A-Za-z]-$", joined) and text[0].islower():
            joined = joined[:-1] + text
        elif re.search(r"\d[-–]$", joined) or _WIDE.match(joined[-1]) or _WIDE.match(text[0]):
            joined += text
        else:
            joined += " " + text
    return joined


def join_paragraphs(lines: Sequence[Line]) -> list[str]:
    """Joins lines into paragraphs in reading order, columns first."""
    found: list[list[Line]] = []
    for line in reading_order(lines, lambda line: line.box, columns_first=True):
        if not found or _begins_paragraph(found[-1], line):
            found.append([])
        found[-1].append(line)
    return [join_lines(line.text for line in paragraph) for paragraph in found]


def room_after(lines: Sequence[Line], at: int) -> float:
    """Returns the room that a line of a block leaves before the next line's first word, in pixels.

    Clearly positive for a line that was ended on purpose: the word would still have fitted.

    >>> from components.data_processing.textbook_pairs.boxes import Box
    >>> narrow, wide = Line(Box(60, 0, 140, 20), "Fig. 1 Lipoma"), Line(Box(0, 30, 200, 50), "A small yellow mass")
    >>> room_after([narrow, wide], 0) > 0, room_after([wide, narrow], 0) > 0
    (True, False)
    """
    line, after = lines[at], lines[at + 1]
    word = re.match(r"[^\s⺀-鿿]*[⺀-鿿]{0,2}", after.text)
    num_letters = (word.end() if word else 0) + 2
    block = union(part.box for part in lines)
    # A centred line leaves as much room on its left as on its right; an indented one only on its left.
    room = min(block.width - line.box.width, 2 * (block.x1 - line.box.x1))
    return room - num_letters * after.box.width / max(len(after.text), 1)


def sentences_across(pages: Iterable[Sequence[str]]) -> list[str]:
    """Splits neighbouring pages into sentences; one that runs over a page's end is whole.

    >>> sentences_across([["A heading", "It goes"], ["on here. And ends."]])
    ['A heading', 'It goes on here.', 'And ends.']
    """
    joined: list[str] = []
    for page in pages:
        for number, paragraph in enumerate(page):
            if number == 0 and joined and not _ENDED.search(joined[-1]):
                joined[-1] = join_lines([joined[-1], paragraph])
            else:
                joined.append(paragraph)
    return [sentence for paragraph in joined for sentence in split_sentences(paragraph)]


def split_sentences(paragraph: str) -> list[str]:
    """Splits a Chinese or English paragraph into sentences.

    >>> split_sentences("①切面灰白。②裂隙状(图13-19A)。 See Fig. 3 for H. pylori. It is rare.")
    ['①切面灰白。', '②裂隙状(图13-19A)。', 'See Fig. 3 for H. pylori.', 'It is rare.']
    """
    sentences: list[str] = []
    start = 0
    for stop in _STOP.finditer(paragraph):
        words = paragraph[start : stop.start()].split()
        last = words[-1].lower().lstrip("([") if words else ""
        if stop[0] == "." and (_ABBREVIATION.fullmatch(last) or _is_initial(words)):
            continue
        sentences.append(paragraph[start : stop.end()].strip())
        start = stop.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _is_initial(words: Sequence[str]) -> bool:
    """Checks whether the last word is a letter that begins a name, as in `J. Doe`, not that of `phenotype B`.

    >>> _is_initial(["by", "J"]), _is_initial(["Compare", "J"]), _is_initial(["of", "phenotype", "B"])
    (True, True, False)
    """
    if not words or not re.fullmatch(r"\W*[A-Za-z]", words[-1]):
        return False
    return len(words) == 1 or words[-1].islower() or bool(_BEFORE_A_NAME.fullmatch(words[-2].lstrip("([")))


def _begins_paragraph(paragraph: Sequence[Line], line: Line) -> bool:
    before = paragraph[-1]
    height = min(before.box.height, line.box.height)
    if line.box.y0 < before.box.y0:
        # The next column goes on where this one ends.
        return bool(_ENDED.search(before.text))
    apart = line.box.y0 - before.box.y1 > _NEW_PARAGRAPH_GAP * height
    block = [*paragraph, line]
    # A sentence may well go on after a line that is a little short; a heading leaves more room than that.
    enough = 0.0 if _ENDED.search(before.text) else _HEADING_ROOM * union(part.box for part in block).width
    return apart or room_after(block, len(block) - 2) > enough
