"""Parses captions of figures: recognises them, and splits them into a title and one part per panel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pathoflow.data.image_io import language_of

# One character for one character, so that positions in the folded text hold in the original.
_FOLD = {ord("圖"): "图", ord("（"): "(", ord("）"): ")", ord("．"): ".", ord("："): ":", ord("，"): ","}
_FOLD |= {ord("；"): ";", ord("～"): "~"} | dict.fromkeys(map(ord, "–—―−‑‒－﹣"), "-")
_FOLD |= {code: chr(code - 0xFEE0) for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}

NUMBER = r"[A-Z]?\d{1,3}(?:(?:\s?-\s?|\.)\d{1,3})*"
"""A figure's number in folded text: `7`, `13-19`, `2.4`, `S1`."""

# Readings of bad scans lose the space behind the number: a word may stand right there, but no other figure.
_START = re.compile(
    rf"^\W{{0,3}}(?:图|(?i:fig(?:ure)?(?![a-z])[.,:]{{0,2}}|plate\b))\s*(?P<number>{NUMBER})(?!\d|[.-]\d)"
    r"(?:(?P<panel>(?i:[a-z])|[①-⑨])?(?![A-Za-z\d])|(?=[A-Z][a-z]{2}))\s?[.:、|■●▲◆•]?(?P<rest>.*)$",
    re.DOTALL,
)
# How a sentence of the body goes on after a figure's number, where a caption would begin its title.
_SENTENCE = re.compile(r"^\s*([a-z]|[,;)、-]|[左右上下]?图?(?:所?示|显示|中|可见)|[和与及])")

_AND = r"\s*(?:[-,&、~]|and|to|和|及|至)\s*"
# In brackets nothing but labels is joined, and a comma may be read as a semicolon.
_AND_IN_BRACKETS = _AND.replace("~]", "~;]")


def _group(label: str, joint: str = _AND) -> str:
    """Returns a pattern for one label or several joined: `A`, `A–C`, `A and C`, `A、B和C`."""
    return rf"(?P<labels>{label}(?:{joint}{label}(?![A-Za-z]))*)"


_AT_START = r"(?:(?<=^)|(?<=[.;:。]\s)|(?<=[;。:]))"
_STYLES = (
    # `(A)`, `(a, b)`; then `A.`, `A、`, `A)`; then `A, Text` and bare `A Text` where a sentence may begin; then `a)`.
    re.compile(rf"\(\s*{_group('[A-Za-z]', _AND_IN_BRACKETS)}\s*\)[.:,、]?"),
    re.compile(rf"(?<![A-Za-z0-9\-])(?<![A-Za-z0-9)]\.){_group('[A-Zc]')}\s?[.:、)](?![A-Za-z0-9]*\.[A-Za-z])"),
    re.compile(rf"{_AT_START}{_group('[A-Za-z]')},\s?(?=[A-Za-z0-9一-鿿])"),
    # Between Chinese words the first label may stand without a stop before it.
    re.compile(rf"(?:{_AT_START}|(?<=[\s一-鿿])(?=A)){_group('[A-Z]')}(?=\s+[A-Z0-9]|\s*[一-鿿])"),
    re.compile(rf"(?:(?<=^)|(?<=[\s.;:。,]|[一-鿿])){_group('[a-zC]')}\s?[.:)](?=\s?\S)"),
    re.compile(rf"\(?{_group('[①-⑳]')}\)?[.:、]?"),
    re.compile(rf"\(\s*{_group('[1-9]')}\s*\)[.:,、]?"),
    re.compile(rf"(?:(?<=^)|(?<=[\s.;:。])|(?<=[一-鿿])(?=1)){_group('[1-9]')}[.、)](?!\d)"),
)
# Where a circled figure stood: the reading left two spaces, or took it for another sign in a circle.
_LOST_LABEL = re.compile(r"(?<=[.;:。])(?:\s{2,}|\s?[©®@]\s?)(?=[A-Z一-鿿])")
_CONNECTOR = re.compile(r"^\s*([,;、]\s*(?:and\b|和)?|and\b|or\b|as well as\b|[和与及]|以及)")
_EDGES = " \t\n\u3000,;:.，；：。、"


@dataclass(frozen=True)
class Caption:
    """A parsed caption.

    Attributes:
        number: The figure's number as printed, with plain hyphens.
        title: Its text about the whole figure.
        parts: Its text about each panel, by label in capitals, in order; empty for an undivided caption.
        panel: The label in the number itself (`Fig. 3B …`), where each panel bears its own caption.
    """

    number: str
    title: str
    parts: dict[str, str] = field(default_factory=dict)
    panel: str = ""

    def text_for(self, label: str) -> str:
        """Returns the title and the part of one panel, without label and number.

        >>> parse_caption("图13-19 纤维腺瘤 A. 裂隙状管内型;B. 腺管状管周型。").text_for("B")
        '纤维腺瘤。腺管状管周型。'
        """
        return _sentences(self.title, self.parts[label])

    @property
    def text(self) -> str:
        """The whole caption without labels and number."""
        return _sentences(self.title, *dict.fromkeys(self.parts.values()))


def parse_caption(text: str) -> Caption | None:
    """Parses a caption; returns None for text that does not begin like one.

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
    return Caption(number, title, parts, canonical_label(start["panel"]) if start["panel"] else "")


def is_caption_start(text: str) -> bool:
    """Checks whether a line begins a figure's caption."""
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
    labels = _find_labels(fold(text)) or find_places(fold(text))
    if not labels:
        return text.strip(_EDGES), {}
    if _labels_follow(fold(text), labels):
        begin = _end_of_title(fold(text), labels[0].start)
        starts = [begin, *(label.end for label in labels[:-1])]
        spans = [(start, label.start) for start, label in zip(starts, labels, strict=True)]
        title = f"{text[:begin].strip(_EDGES)} {text[labels[-1].end :].strip(_EDGES)}"
    else:
        ends = [*(label.start for label in labels[1:]), len(text)]
        spans = [(label.end, end) for label, end in zip(labels, ends, strict=True)]
        title = text[: labels[0].start]
    parts: dict[str, str] = {}
    for label, (start, end) in zip(labels, spans, strict=True):
        part = _CONNECTOR.sub("", text[start:end]).strip(_EDGES)
        parts.update(dict.fromkeys(label.names, _strip_bracket(part)))
    if not all(parts.values()):
        return text.strip(_EDGES), {}
    return _strip_bracket(title.strip(_EDGES)), dict(sorted(parts.items())) if _in_order(parts) else parts


def _in_order(parts: dict[str, str]) -> bool:
    return all(len(name) == 1 for name in parts)


def _strip_bracket(text: str) -> str:
    """Removes a bracket that opens or closes nothing, as splitting inside brackets leaves it.

    >>> _strip_bracket("Lipoma ("), _strip_bracket("ducts (HE)"), _strip_bracket("acini)")
    ('Lipoma', 'ducts (HE)', 'acini')
    """
    folded = fold(text)
    if folded.endswith("(") or (folded.count("(") > folded.count(")") and folded.startswith("(")):
        return text.removesuffix(text[-1]).strip(_EDGES) if folded.endswith("(") else text[1:].strip(_EDGES)
    if folded.count(")") > folded.count("(") and folded.endswith(")"):
        return text[:-1].strip(_EDGES)
    return text


def _end_of_title(folded: str, first_label: int) -> int:
    """Returns where the last whole sentence before the first label ends, if labels stand behind their text."""
    ends = [match.end() for match in re.finditer(r"[。;:]|\.(?=\s+\S)", folded[:first_label])]
    return ends[-1] if ends else 0


def fold(text: str) -> str:
    """Folds full-width letters, digits, brackets and the many dashes to plain ASCII, position by position.

    A dash between figures that was read as the Chinese one (`一`) is a dash too, and what was read as a letter between
    `图` and a figure is the figure one.

    >>> fold("图１３–１９（Ａ）"), fold("图28一23"), fold("图I6.9")
    ('图13-19(A)', '图28-23', '图16.9')
    """
    return re.sub(r"(?<=图)[Il](?=\d)", "1", re.sub(r"(?<=\d)一(?=\d)", "-", text.translate(_FOLD)))


def parse_letters(text: str) -> tuple[str, ...]:
    """Returns the labels that a group of letters or digits names: capitals, and circled digits as plain ones.

    >>> parse_letters("A, C"), parse_letters("b-d"), parse_letters("A和B"), parse_letters("①、②")
    (('A', 'C'), ('B', 'C', 'D'), ('A', 'B'), ('1', '2'))
    """
    names: list[str] = []
    ranged = False
    for token in re.findall(r"and|to|[A-Za-z1-9①-⑨]|[-~至]", text):
        if token in {"-", "~", "至", "to"}:
            ranged = bool(names)
        elif token != "and":
            name = canonical_label(token)
            first = ord(names[-1]) + 1 if ranged else ord(name)
            names += [chr(code) for code in range(first, ord(name) + 1)]
            ranged = False
    return tuple(names)


def canonical_label(label: str) -> str:
    """Returns the canonical form of a label: a capital letter, or a plain digit.

    >>> canonical_label("b"), canonical_label("③"), canonical_label("3")
    ('B', '3', '3')
    """
    return str(ord(label) - 0x245F) if "①" <= label <= "⑨" else label.upper()


@dataclass(frozen=True)
class _Label:
    names: tuple[str, ...]
    start: int
    end: int


def _find_labels(folded: str) -> list[_Label]:
    """Finds the longest run A, B, C, … of at least two labels in one style; earlier styles win a tie."""
    best: list[_Label] = []
    for style in _STYLES:
        for kind in (str.isupper, str.islower, str.isnumeric):
            found = [
                _Label(parse_letters(match["labels"]), match.start(), match.end())
                for match in style.finditer(folded)
                # Readings tell `c` from `C` by its size alone.
                if kind(match["labels"][0]) or match["labels"][0] in "cC"
            ]
            if found and "①" <= folded[found[0].start] <= "⑨":
                found = _restore_lost_labels(found, folded)
            for run in _runs(found):
                if _num_names(run) > max(_num_names(best), 1):
                    best = run
    return best


def _restore_lost_labels(labels: list[_Label], folded: str) -> list[_Label]:
    """Restores circled digits that OCR lost.

    >>> text = "① Ducts. ② Acini.  Nests. © Cords."
    >>> [label.names[0] for label in _restore_lost_labels(_find_labels("① Ducts. ② Acini."), text)]
    ['1', '2', '3', '4']
    """
    known = {label.start: label for label in labels}
    lost = (_Label((), match.start(), match.end()) for match in _LOST_LABEL.finditer(folded))
    full = sorted([*labels, *(label for label in lost if label.end not in known)], key=lambda label: label.end)
    if len(full) == len(labels):
        return labels
    first = next((number for number, label in enumerate(full) if label.names), 0)
    start = int(full[first].names[0]) - first
    numbered = [replace(label, names=(str(start + number),)) for number, label in enumerate(full)]
    agrees = all(label.names == other.names for label, other in zip(full, numbered, strict=True) if label.names)
    return numbered if agrees and start == 1 else labels


def _runs(labels: list[_Label]) -> Iterator[list[_Label]]:
    """Yields every run that begins at a first label and names the next one in order, without a gap."""
    for first, label in enumerate(labels):
        if label.names[:1] not in (("A",), ("1",)):
            continue
        run, named = [label], list(label.names)
        for candidate in labels[first + 1 :]:
            if candidate.names and candidate.names[0] == next_label(named) and not set(candidate.names) & set(named):
                run.append(candidate)
                named += candidate.names
        if sorted(named) == [chr(ord(named[0]) + place) for place in range(len(named))]:
            yield run


def next_label(named: Sequence[str]) -> str:
    """Returns the first label after the first that is not among those named: after A and C it is B.

    >>> next_label(["A", "C"]), next_label(["1", "2", "3"])
    ('B', '4')
    """
    return next(chr(code) for code in range(ord(named[0]), 0x10000) if chr(code) not in named)


PLACES = ("left", "right", "top", "bottom")
"""Names of panels that a caption tells apart by their place."""

_PLACE_NAMES = {"左": "left", "右": "right", "上": "top", "下": "bottom", "upper": "top", "lower": "bottom"}
_PLACE_STYLES = (
    # `Left, ducts`, `left panel: ducts`; `左：导管`, `左图示导管`, `左导管`; then `ducts (left)`, `导管（左）`.
    re.compile(
        r"(?:^|(?<=[.;:,(]\s)|(?<=[;:(]))(?:the\s)?(?P<place>left|right|top|bottom|upper|lower)"
        r"(?:\s(?:panel|image|figure|side|half))?\s?[:,]",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?:^|(?<=[.;:,。(\s]))(?P<place>[左右上下])"
        r"(?:(?:图|侧|半部?)?\s*[:,、]|图\s*(?:显示|示|为)?|(?=[^侧图半皮述方段部缘肢颌叶\W]))"
    ),
    re.compile(
        r"\((?P<place>left|right|top|bottom|upper|lower|[左右上下])(?:\s?(?:panel|image|figure|side|half|图|侧))?\)",
        re.IGNORECASE,
    ),
)


def canonical_place(word: str) -> str:
    """Returns the place that a word names, one of `PLACES`.

    >>> canonical_place("Upper"), canonical_place("左")
    ('top', 'left')
    """
    return _PLACE_NAMES.get(word.lower(), word.lower())


def find_places(folded: str) -> list[_Label]:
    """Finds the words by which a caption tells two panels apart by place: left and right, or top and bottom.

    >>> [label.names for label in find_places("Lipoma. Left, whole; right, cut.")]
    [('left',), ('right',)]
    >>> find_places("Lipoma of the left breast, right and left")
    []
    """
    for style in _PLACE_STYLES:
        found: dict[str, _Label] = {}
        for match in style.finditer(folded):
            name = canonical_place(match["place"])
            # Of a word that comes twice the later one counts: `左侧…。左：…`.
            found[name] = _Label((name,), match.start(), match.end())
        for pair in (("left", "right"), ("top", "bottom")):
            if all(name in found for name in pair):
                return sorted((found[name] for name in pair), key=lambda label: label.start)
    return []


def _num_names(labels: list[_Label]) -> int:
    return sum(len(label.names) for label in labels)


def _labels_follow(folded: str, labels: list[_Label]) -> bool:
    """Checks whether each label stands behind its text."""
    before = folded[: labels[0].start].rstrip()
    if not before or before[-1] in ".;:。,":
        return False
    if not re.search(r"\w", folded[labels[-1].end :]):
        return True
    between = [folded[a.end : b.start] for a, b in pairwise(labels)]
    return all(_CONNECTOR.match(text) for text in between)


def _sentences(*texts: str) -> str:
    """Joins texts as sentences, each with the full stop of their language.

    >>> _sentences("Lipoma", "Cut surface"), _sentences("", "纤维腺瘤")
    ('Lipoma. Cut surface.', '纤维腺瘤。')
    """
    chinese = language_of(" ".join(texts)) == "zh"
    stop, space = ("。", "") if chinese else (".", " ")
    stripped = [text.strip(_EDGES) for text in texts]
    return space.join(text if text[-1] in "?!？！" else text + stop for text in stripped if text)
