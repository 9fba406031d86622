"""Generates captions as books print them, with each panel's true caption."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.books import words
from bench.books.words import Language, pick

CIRCLED = "①②③④⑤⑥⑦⑧⑨"
_PLACES = {
    "row": {"en": (("left", "right"), ("Left", "Right")), "zh": (("左", "右"), ("左图", "右图"))},
    "column": {"en": (("top", "bottom"), ("upper", "lower")), "zh": (("上", "下"), ("上图", "下图"))},
}
_BEFORE: dict[str, dict[Language, tuple[str, ...]]] = {
    "A": {"en": ("({0}) {1}. ", "{0}. {1}. ", "{0}, {1}. ", "{0}: {1}; ", "{0} {1}. ", "({0}): {1}. ", "{0}) {1}. "),
          "zh": ("{0}. {1}；", "（{0}）{1}；", "{0}：{1}；", "{0}、{1}；", "{0} {1}；", "{0}.{1}。")},
    "a": {"en": ("({0}) {1}. ", "{0}) {1}; ", "{0}. {1}. ", "{0}, {1}. "), "zh": ("({0}){1}；", "{0}. {1}；")},
    "①": {"en": ("{0} {1}. ",), "zh": ("{0}{1}；", "{0} {1}；")},
    "1": {"en": ("({0}) {1}. ", "{0}. {1}. "), "zh": ("({0}){1}；", "{0}. {1}；")},
}  # fmt: skip


@dataclass(frozen=True)
class CaptionPlan:
    """Caption with its truth.

    Attributes:
        head: The figure's number as printed before the text; empty for a caption without number.
        body: The text after it.
        truths: The true pairs: each item names the panels (by their place) that share one pair, and
            its caption.
        grammar: Kind of its part marks, for the tables of the benchmark.
    """

    head: str
    body: str
    truths: tuple[tuple[tuple[int, ...], str], ...]
    grammar: str


def label_names(alphabet: str, num_panels: int) -> tuple[str, ...]:
    """Returns the labels of a figure's panels: letters, digits or circled digits."""
    if alphabet == "①":
        return tuple(CIRCLED[:num_panels])
    first = ord(alphabet)
    return tuple(chr(first + number) for number in range(num_panels))


def undivided(rng: np.random.Generator, language: Language, head: str, num_panels: int) -> CaptionPlan:
    """Builds a caption without parts; several panels under it make one pair."""
    text = words.title(rng, language)
    if rng.random() < 0.6:
        text = _joined(language, text, words.part(rng, language))
    stop = "" if rng.random() < 0.3 else ("." if language == "en" else "。")
    whole = tuple(range(num_panels))
    return CaptionPlan(head, text + stop, ((whole, text),), "undivided")


def placed(rng: np.random.Generator, language: Language, head: str, direction: str) -> CaptionPlan:
    """Builds a caption that tells two panels apart by their place: left and right, or above and below (`direction`)."""
    title = words.title(rng, language)
    parts = [words.part(rng, language) for _ in range(2)]
    first, second = pick(rng, _PLACES[direction][language])
    if language == "zh":
        form = (
            pick(rng, ("{0}：{1}；{2}：{3}。", "{0}{1}；{2}{3}。", "（{0}：{1}；{2}：{3}）"))
            if "图" not in first
            else "{0}示{1}；{2}示{3}。"
        )
        body = f"{title}。" + form.format(first, parts[0], second, parts[1])
    else:
        form = pick(rng, ("{0}, {1}. {2}, {3}.", "{0}: {1}; {2}: {3}.", "{1} ({4}) and {3} ({5})."))
        body = f"{title}. " + form.format(first.capitalize(), parts[0], second.capitalize(), parts[1], first, second)
    truths = tuple(((at,), _joined(language, title, parts[at])) for at in range(2))
    return CaptionPlan(head, body, truths, "places")


def labelled(
    rng: np.random.Generator, language: Language, head: str, alphabet: str, order: tuple[int, ...]
) -> CaptionPlan:
    """Builds a caption that names every panel by its label.

    Args:
        rng: Chooses the words and the grammar.
        language: Language of the caption.
        head: The number as printed.
        alphabet: First of the labels: `A`, `a`, `1` or `①`.
        order: The place of the panel that bears the first label, the second, and so on.
    """
    num_panels = len(order)
    names = label_names(alphabet, num_panels)
    title = words.title(rng, language)
    grammar = str(rng.choice(["before", "after", "range", "list"], p=[0.62, 0.14, 0.12, 0.12]))
    if alphabet in "1①" or (grammar in ("range", "list") and num_panels < 3):
        grammar = "before"
    groups = _groups(rng, grammar, num_panels)
    parts = [words.part(rng, language) for _ in groups]
    marks = [_mark(rng, language, [names[at] for at in group], grammar) for group in groups]
    if grammar == "after":
        body = _behind(language, title, parts, marks)
    else:
        form = pick(rng, _BEFORE[alphabet][language])
        if grammar != "before" and form.startswith("{0} "):
            form = "{0}. {1}. " if language == "en" else "{0}. {1}；"
        text = "".join(form.format(mark, part) for mark, part in zip(marks, parts, strict=True))
        text = text.rstrip(" ;；。.") + ("。" if language == "zh" else ".")
        body = f"{title}{pick(rng, ('. ', '. ', ': ')) if language == 'en' else pick(rng, ('。', ' ', '  '))}{text}"
    truths = tuple(
        ((order[at],), _joined(language, title, part))
        for group, part in zip(groups, parts, strict=True)
        for at in group
    )
    return CaptionPlan(head, body, truths, grammar)


def mismatched(rng: np.random.Generator, language: Language, head: str, num_panels: int) -> CaptionPlan:
    """Builds a caption that names fewer panels than the figure has: the figure is one pair."""
    plan = labelled(rng, language, head, "A", tuple(range(num_panels - 1)))
    words_of_all = _joined(language, *dict.fromkeys(text for _, text in plan.truths))
    title = _common_start([text for _, text in plan.truths])
    whole = title + words_of_all.replace(title, "")
    return CaptionPlan(head, plan.body, ((tuple(range(num_panels)), whole),), "counts disagree")


def _groups(rng: np.random.Generator, grammar: str, num_panels: int) -> list[tuple[int, ...]]:
    if grammar == "range":
        length = int(rng.integers(2, num_panels))
        start = int(rng.integers(0, 2)) * (num_panels - length)
        middle = tuple(range(start, start + length))
        return [(at,) for at in range(start)] + [middle] + [(at,) for at in range(start + length, num_panels)]
    if grammar == "list":
        if num_panels == 4 and rng.random() < 0.6:
            return [(0, 2), (1, 3)]
        return [(0, 1), *((at,) for at in range(2, num_panels))]
    return [(at,) for at in range(num_panels)]


def _mark(rng: np.random.Generator, language: Language, names: list[str], grammar: str) -> str:
    if len(names) == 1:
        return names[0]
    if grammar == "range":
        return f"{names[0]}{pick(rng, ('–', '-', '~' if language == 'zh' else '–'))}{names[-1]}"
    return pick(rng, ("{} and {}", "{}, {}") if language == "en" else ("{}、{}", "{}和{}", "{}，{}")).format(*names)


def _behind(language: Language, title: str, parts: list[str], marks: list[str]) -> str:
    if language == "zh":
        return f"{title}。" + "，".join(f"{part}（{mark}）" for mark, part in zip(marks, parts, strict=True)) + "。"
    texts = [f"{part} ({mark})" for mark, part in zip(marks, parts, strict=True)]
    return f"{title}. {', '.join(texts[:-1])} and {texts[-1]}."


def _joined(language: Language, *texts: str) -> str:
    return (". " if language == "en" else "。").join(text for text in texts if text)


def _common_start(texts: list[str]) -> str:
    length = 0
    while all(len(text) > length and text[length] == texts[0][length] for text in texts):
        length += 1
    return texts[0][:length]
