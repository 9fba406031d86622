"""Finds in-line references: sentences of the body that refer to a figure or to one of its panels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from components.data_processing.textbook_pairs.captions.parsing import NUMBER, canonical_place, fold, parse_letters

# Readings lose spaces: `seeFigure 9.4`.
_HEAD = re.compile(
    rf"(?:图|(?:\b|(?<=[a-z])(?=F)|(?<=\bsee))(?P<word>(?i:fig(?:ure)?s?))(?![a-z])[.,]{{0,2}})\s*(?=\(?{NUMBER})"
)
_NUMBER = re.compile(NUMBER)
_AND = r"\s*(?:,|、|;|/|&|~|-|\band\b|\bto\b|\bthrough\b|和|与|及|至)\s*(?:and\b)?\s*"
# A capital after a space is a label in `Fig. 3 A, B` and `(Fig. 3 A)`, but not in `Fig. 3 B cells`.
_SPACE = r"(?:\s(?=\(?[A-Z]\)?\s*(?:[^\sA-Za-z]|$)))?"
_LETTERS = re.compile(
    rf"{_SPACE}\(?(?P<letters>[A-Z](?:{_AND}[A-Z](?![A-Za-z\d]))*)\)?(?![A-Za-z\d])"
    rf"|\(?(?P<small>[a-z](?:{_AND}[a-z](?![A-Za-z\d]))*)\)?(?![A-Za-z\d])"
    rf"|\s?\(?(?P<circled>[①-⑨](?:{_AND}[①-⑨])*)"
)
_PLACE = re.compile(
    r",?\s*\(?(?:the\s)?(?P<place>left|right|top|bottom|upper|lower)\b(?!\s(?:breast|lung|kidney|lobe))"
    r"|(?P<word>[左右上下])(?=图|侧图|[)。,;、示]|所示|显示|可见|$)",
    re.IGNORECASE,
)
_NEXT = re.compile(rf"(?P<joint>{_AND})(?={NUMBER})")


class Mention(NamedTuple):
    """One figure that a sentence refers to.

    Attributes:
        number: Its number with every separator as a hyphen.
        panels: The labels named, in capitals; empty for the whole figure.
    """

    number: str
    panels: tuple[str, ...]


def references_to(sentences: Iterable[str], number: str, panel: str | None) -> list[str]:
    """Returns the sentences that refer to a figure: to all of it, or to one panel of it.

    Args:
        sentences: Sentences of the page and its neighbours.
        number: The figure's number as its caption prints it.
        panel: The panel's label in capitals; None for a figure that was kept whole.

    >>> text = ["Ducts are slit-like (Fig. 13-19A).", "Acini are round (Fig 13–19B).", "See Figs. 13-18 and 13-19."]
    >>> references_to(text, "13-19", "B")
    ['Acini are round (Fig 13–19B).', 'See Figs. 13-18 and 13-19.']
    """
    if not number:
        return []
    wanted = canonical_number(number)
    found = [
        sentence
        for sentence in sentences
        if any(
            mention.number == wanted and (panel is None or not mention.panels or panel in mention.panels)
            for mention in mentions(sentence)
        )
    ]
    return list(dict.fromkeys(found))


def mentions(sentence: str) -> list[Mention]:
    """Returns every figure that a sentence refers to, in order.

    A hyphen between two plain numbers is part of the number in some books and a range in others: after a plural
    (`Figs 2-4`) both readings are returned.

    >>> [tuple(mention) for mention in mentions("Figs 2 and 3A, B; 图13-19A和图13-20B、C")]
    [('2', ()), ('3', ('A', 'B')), ('13-19', ('A',)), ('13-20', ('B', 'C'))]
    >>> [mention.number for mention in mentions("Figs. 2–4")]
    ['2-4', '2', '3', '4']
    """
    folded = fold(sentence)
    found: list[Mention] = []
    for head in _HEAD.finditer(folded):
        plural = (head["word"] or "").lower().endswith("s")
        found += _items(folded, head.end(), several=plural or head["word"] is None, plural=plural)
    return found


def canonical_number(number: str) -> str:
    """Returns a figure's number in the form by which captions and mentions are compared.

    >>> canonical_number("13.19") == canonical_number("13 – 19") == "13-19"
    True
    """
    return re.sub(r"\s", "", fold(number)).replace(".", "-").upper()


def _items(folded: str, at: int, *, several: bool, plural: bool) -> list[Mention]:
    """Parses the figures named one after another from position `at`."""
    found: list[Mention] = []
    ranged = False
    while number := _NUMBER.match(folded, at):
        at = number.end()
        name = canonical_number(number[0])
        letters = _LETTERS.match(folded, at)
        panels: tuple[str, ...] = ()
        if letters:
            panels = parse_letters(letters["letters"] or letters["small"] or letters["circled"])
            at = letters.end()
        elif place := _PLACE.match(folded, at):
            panels = (canonical_place(place["place"] or place["word"]),)
            at = place.end()
        if ranged and name.isdigit() and found and found[-1].number.isdigit():
            found += [Mention(str(middle), ()) for middle in range(int(found[-1].number) + 1, int(name))]
        found.append(Mention(name, panels))
        if plural and not panels:
            found += [Mention(str(middle), ()) for middle in _range(name)]
        joint = _NEXT.match(folded, at) if several else None
        if joint is None:
            break
        at = joint.end()
        ranged = joint["joint"].strip() in {"-", "~", "to", "through", "至"}
    return found


def _range(name: str) -> range:
    """Returns the numbers that `2-4` means if it is a range, at most ten."""
    bounds = name.split("-")
    if len(bounds) != 2 or not all(bound.isdigit() for bound in bounds):
        return range(0)
    first, last = map(int, bounds)
    return range(first, last + 1) if first < last <= first + 9 else range(0)
