"""Captions of figures: recognising them, and splitting them into the figure's title and one part per panel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from pathoflow.images import language_of

# One character for one character, so that positions in the folded text hold in the original.
_FOLD = {ord("圖"): "图", ord("（"): "(", ord("）"): ")", ord("．"): ".", ord("："): ":", ord("，"): ","}
_FOLD |= {ord("；"): ";", ord("～"): "~"} | dict.fromkeys(map(ord, "–—−‑‒"), "-")
_FOLD |= {code: chr(code - 0xFEE0) for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}

NUMBER = r"[A-Z]?\d{1,3}(?:(?:\s?-\s?|\.)\d{1,3})*"
"""A figure's number in folded text: `7`, `13-19`, `2.4`, `S1`."""

_START = re.compile(
    rf"^\W{{0,3}}(?:图|fig(?:ure)?\b\.?|plate\b)\s*(?P<number>{NUMBER})(?P<panel>[a-z])?(?![a-z\d])[.:、|]?(?P<rest>.*)$",
    re.IGNORECASE | re.DOTALL,
)
# How a sentence of the body goes on after a figure's number, where a caption would begin its title.
_SENTENCE = re.compile(r"^\s*([a-z]|[,;)、]|所?示|显示|中|可见|[和与及])")

_LETTERS = r"[A-Za-z](?:\s*(?:[-,&、~]|and|to|和|至)\s*[A-Za-z])*"
_STYLES = (
    # `(A)`, `(a, b)`; then `A.`, `A、`, `A)`; then `A, Text` and bare `A Text` where a sentence may begin; then `a)`.
    re.compile(rf"\(\s*(?P<labels>{_LETTERS})\s*\)[.:,、]?"),
    re.compile(r"(?<![A-Za-z0-9.\-])(?P<labels>[A-Z](?:\s*[-,&、~]\s*[A-Z])*)\s?[.:、)](?![A-Za-z0-9]*\.[A-Za-z])"),
    re.compile(r"(?:(?<=^)|(?<=[.;:。]\s)|(?<=[;。]))(?P<labels>[A-Z](?:\s*[-&~]\s*[A-Z])*),\s?(?=[A-Z0-9一-鿿])"),
    re.compile(r"(?:(?<=^)|(?<=[.;:。]\s)|(?<=[;。]))(?P<labels>[A-Z](?:\s*[-&~]\s*[A-Z])*)(?=\s+[A-Z0-9]|\s*[一-鿿])"),
    re.compile(r"(?:(?<=^)|(?<=[\s.;:。]))(?P<labels>[a-z](?:\s*[-,&、~]\s*[a-z])*)[.)](?=\s|[一-鿿])"),
)
_CONNECTOR = re.compile(r"^\s*([,;、]|and\b|or\b|as well as\b|[和与及]|以及)")
_EDGES = " \t\n\u3000,;:.，；：。、"


@dataclass(frozen=True)
class Caption:
    """A caption read into its parts.

    Attributes:
        number: The figure's number as printed, with plain hyphens.
        title: What it says of the whole figure.
        parts: What it says of each panel, by label in capitals, in order; empty for an undivided caption.
        panel: The label in the number itself (`Fig. 3B …`), where each panel bears its own caption.
    """

    number: str
    title: str
    parts: dict[str, str] = field(default_factory=dict)
    panel: str = ""

    def text_for(self, label: str) -> str:
        """The title and the part of one panel, without label and number.

        >>> parse_caption("图13-19 纤维腺瘤 A. 裂隙状管内型;B. 腺管状管周型。").text_for("B")
        '纤维腺瘤。腺管状管周型。'
        """
        return _sentences(self.title, self.parts[label])

    @property
    def text(self) -> str:
        """Everything the caption says, without labels and number."""
        return _sentences(self.title, *dict.fromkeys(self.parts.values()))


def parse_caption(text: str) -> Caption | None:
    """Reads a caption; None for text that does not begin like one.

    >>> parse_caption("Fig. 3.2 Fibroadenoma. (A) Narrow ducts. (B) Wide ducts. H&E")
    Caption(number='3.2', title='Fibroadenoma', parts={'A': 'Narrow ducts', 'B': 'Wide ducts. H&E'}, panel='')
    >>> parse_caption("图 2-4B 乳腺")
    Caption(number='2-4', title='乳腺', parts={}, panel='B')
    >>> parse_caption("Figure 3 shows a cyst.") is None
    True
    """
    start = _START.match(fold(text))
    if start is None or _SENTENCE.match(start["rest"]):
        return None
    body = text[start.start("rest") :]
    title, parts = split_parts(body)
    number = re.sub(r"\s", "", start["number"])
    return Caption(number, title, parts, (start["panel"] or "").upper())


def is_caption_start(text: str) -> bool:
    """Whether a line begins a figure's caption."""
    return parse_caption(text) is not None


def split_parts(text: str) -> tuple[str, dict[str, str]]:
    """Splits a caption without its number into the title and the text of each panel label.

    Labels are a run A, B, C, … in one style, before the text that they mark (`A. …; B. …`, `(a) …`) or behind it
    (`ducts (A) and acini (B)`). A label that names several panels (`A–C`) gives each of them its text.

    >>> split_parts("Lipoma. (A, B) Whole. (C) Cut.")
    ('Lipoma', {'A': 'Whole', 'B': 'Whole', 'C': 'Cut'})
    >>> split_parts("Ducts (A) and acini (B).")
    ('', {'A': 'Ducts', 'B': 'acini'})
    >>> split_parts("Staining for hepatitis B. No labels here.")
    ('Staining for hepatitis B. No labels here', {})
    """
    labels = _find_labels(fold(text))
    if not labels:
        return text.strip(_EDGES), {}
    if _labels_follow(fold(text), labels):
        starts = [0, *(label.end for label in labels[:-1])]
        spans = [(start, label.start) for start, label in zip(starts, labels, strict=True)]
        title = text[labels[-1].end :]
    else:
        ends = [*(label.start for label in labels[1:]), len(text)]
        spans = [(label.end, end) for label, end in zip(labels, ends, strict=True)]
        title = text[: labels[0].start]
    parts: dict[str, str] = {}
    for label, (start, end) in zip(labels, spans, strict=True):
        part = _CONNECTOR.sub("", text[start:end]).strip(_EDGES)
        parts.update(dict.fromkeys(label.names, part))
    if not all(parts.values()):
        return text.strip(_EDGES), {}
    return title.strip(_EDGES), parts


def fold(text: str) -> str:
    """Full-width letters, digits and brackets and the many dashes as plain ASCII, position by position.

    >>> fold("图１３–１９（Ａ）")
    '图13-19(A)'
    """
    return text.translate(_FOLD)


def parse_letters(text: str) -> tuple[str, ...]:
    """The labels that a group of letters names, in capitals.

    >>> parse_letters("A, C"), parse_letters("b-d"), parse_letters("A和B")
    (('A', 'C'), ('B', 'C', 'D'), ('A', 'B'))
    """
    names: list[str] = []
    ranged = False
    for token in re.findall(r"and|to|[A-Za-z]|[-~至]", text):
        if token in {"-", "~", "至", "to"}:
            ranged = bool(names)
        elif token != "and":
            first = ord(names[-1]) + 1 if ranged else ord(token.upper())
            names += [chr(code) for code in range(first, ord(token.upper()) + 1)]
            ranged = False
    return tuple(names)


@dataclass(frozen=True)
class _Label:
    names: tuple[str, ...]
    start: int
    end: int


def _find_labels(folded: str) -> list[_Label]:
    """The longest run A, B, C, … of labels in one style; earlier styles win a tie. Fewer than two are none."""
    best: list[_Label] = []
    for style in _STYLES:
        for case in (str.isupper, str.islower):
            found = [
                _Label(parse_letters(match["labels"]), match.start(), match.end())
                for match in style.finditer(folded)
                if case(match["labels"][0])
            ]
            for run in _runs(found):
                if _num_names(run) > max(_num_names(best), 1):
                    best = run
    return best


def _runs(labels: list[_Label]) -> Iterator[list[_Label]]:
    """Every run that begins at an A and takes the next label in order each time."""
    for first, label in enumerate(labels):
        if label.names[:1] != ("A",):
            continue
        run = [label]
        for candidate in labels[first + 1 :]:
            if candidate.names and ord(candidate.names[0]) == ord(run[-1].names[-1]) + 1:
                run.append(candidate)
        yield run


def _num_names(labels: list[_Label]) -> int:
    return sum(len(label.names) for label in labels)


def _labels_follow(folded: str, labels: list[_Label]) -> bool:
    """Whether each label stands behind its text."""
    before = folded[: labels[0].start].rstrip()
    if not before or before[-1] in ".;:。,":
        return False
    if not re.search(r"\w", folded[labels[-1].end :]):
        return True
    between = [folded[a.end : b.start] for a, b in pairwise(labels)]
    return all(_CONNECTOR.match(text) for text in between)


def _sentences(*texts: str) -> str:
    """Texts as sentences in a row, with the full stop of their language.

    >>> _sentences("Lipoma", "Cut surface"), _sentences("", "纤维腺瘤")
    ('Lipoma. Cut surface.', '纤维腺瘤。')
    """
    chinese = language_of(" ".join(texts)) == "zh"
    stop, space = ("。", "") if chinese else (".", " ")
    stripped = [text.strip(_EDGES) for text in texts]
    return space.join(text if text[-1] in "?!？！" else text + stop for text in stripped if text)
