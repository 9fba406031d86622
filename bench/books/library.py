"""Plans, sets and scans books, and keeps the truth of every page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.books import captions, distractors, words
from bench.books.captions import CaptionPlan
from bench.books.figures import CORNERS, MARKS, SEPARATORS, Box, FigurePlan, choose_kind, choose_rows
from bench.books.scanning import degrade, turned_box
from bench.books.typesetting import (
    Block,
    Distractor,
    Figure,
    Heading,
    LoneCaption,
    Paragraph,
    Sentence,
    Sheet,
    Style,
)
from bench.books.words import Language, pick

PAGES_PER_BOOK = 6

_HEADS = {
    "en": ("Fig. {c}-{n}", "Figure {c}.{n}", "FIG. {c}.{n}", "Figure {n}.", "Fig. {n}:", "Fig {c}–{n}.",
           "FIGURE {c}-{n} ■"),
    "zh": ("图{c}-{n}", "图 {c}-{n}", "图{c}.{n}", "图{n}", "图 {c}－{n}"),
}  # fmt: skip


@dataclass(frozen=True)
class TruePair:
    """Pair on a page.

    Attributes:
        box: Where it is, as shares of the page's width and height.
        caption: Its caption's text.
        references: The sentences that refer to it on its page and the neighbours.
        open_references: Sentences of which only a part stands there: neither asked for nor wrong.
        variations: Special features of its figure.
    """

    box: Box
    caption: str
    references: tuple[str, ...]
    open_references: tuple[str, ...]
    variations: dict[str, str]


@dataclass(frozen=True)
class TruePage:
    """Page of a book: its file, its degradation, its pairs, and the kind and place of its distractors."""

    file: Path
    degradation: str
    pairs: tuple[TruePair, ...]
    distractors: tuple[tuple[str, Box], ...]
    variations: dict[str, str]


def write_book(folder: Path, seed: int, degradation: str) -> list[TruePage]:
    """Writes the pages of one book as images `<folder>-<number>.jpg` below `folder` and returns what they hold."""
    rng = np.random.default_rng(seed)
    style = _style(rng)
    book = _Book(rng, style)
    sheets = book.set_pages()
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for sheet in sheets:
        content, degrees = degrade(sheet.image, rng, degradation, style.paper)
        file = folder / f"{folder.name}-{sheet.number:02d}.jpg"
        file.write_bytes(content)
        pairs = tuple(_true_pairs(sheet, book.sentences, degrees))
        others = tuple((kind, _on_scan(box, degrees, style)) for kind, box in sheet.distractors)
        shown = {"language": style.language, "columns": str(style.num_columns), "font": book.style.body_font}
        pages.append(TruePage(file, degradation, pairs, others, shown | {"page": book.kinds[sheet.number]}))
    return pages


def _style(rng: np.random.Generator) -> Style:
    language: Language = "en" if rng.random() < 0.55 else "zh"
    width = int(rng.choice([1300, 1500, 1680, 1800]))
    height = round(width * rng.uniform(1.28, 1.46))
    scale = width / 1680
    num_columns = 2 if rng.random() < 0.45 else 1
    family = "zh" if language == "zh" else pick(rng, ("serif", "sans", "times", "times"))
    caption_family = "zh" if language == "zh" else pick(rng, ("serif", "sans", "times"))
    if caption_family == "times" and rng.random() < 0.3:
        caption_family = "times italic"
    body_px = round(rng.uniform(25, 31) * scale) if num_columns == 1 else round(rng.uniform(23, 27) * scale)
    return Style(
        language=language,
        width=width,
        height=height,
        margins=tuple(
            round(float(rng.uniform(low, high)) * width)
            for low, high in ((0.06, 0.13), (0.08, 0.13), (0.06, 0.13), (0.08, 0.14))
        ),  # type: ignore[arg-type]
        num_columns=num_columns,
        column_gap=round(rng.uniform(36, 70) * scale),
        body_font=family,
        body_px=body_px,
        leading=float(rng.uniform(1.25, 1.65)),
        indent=int(rng.choice([0, body_px, 2 * body_px])),
        caption_font=caption_family,
        caption_px=max(round(body_px * rng.uniform(0.78, 1.0)), 19),
        caption_align=pick(rng, ("left", "left", "centre")),
        head_bold=bool(rng.random() < 0.7),
        caption_gap=int(rng.integers(8, 34)),
        accent=pick(rng, ((20, 20, 20), (20, 20, 20), (30, 80, 150), (150, 40, 40), (20, 110, 90))),
        paper=pick(rng, ((255, 255, 255), (255, 255, 255), (252, 250, 244), (246, 242, 230))),
        header=words.title(rng, language),
    )


def _with_circled_figures(style: Style) -> Style:
    """Returns the style in fonts that have ①, ②, …; DejaVu Serif prints empty boxes for them."""
    body, caption = ("times" if font == "serif" else font for font in (style.body_font, style.caption_font))
    return replace(style, body_font=body, caption_font=caption)


class _Book:
    """Book while it is planned and set.

    Attributes:
        kinds: Kind of each page: figures, text, distractors, plate (its caption follows), or after a plate.
        sentences: Every sentence of the body, with the pages on which it came to stand.
    """

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        self.rng = rng
        self.sentences: list[Sentence] = []
        self.kinds: list[str] = []
        self._chapter = int(rng.integers(1, 30))
        self._next_number = int(rng.integers(1, 30))
        self._head = pick(rng, _HEADS[style.language])
        self._alphabet = str(rng.choice(["A", "a", "1", "①"], p=[0.62, 0.18, 0.08, 0.12]))
        self.style = _with_circled_figures(style) if self._alphabet == "①" else style
        self._corner = pick(rng, (*CORNERS, *CORNERS, "below"))
        self._mark = pick(rng, MARKS)
        self._separator = pick(rng, tuple(SEPARATORS))
        self._place = str(rng.choice(["below", "above", "beside"], p=[0.72, 0.1, 0.18]))

    def set_pages(self) -> list[Sheet]:
        """Plans and sets every page."""
        wide: list[list[Block]] = []
        flowing: list[list[Block]] = []
        lone: CaptionPlan | None = None
        while len(self.kinds) < PAGES_PER_BOOK:
            kind = (
                "after a plate"
                if lone
                else str(self.rng.choice(["figures", "text", "distractors", "plate"], p=[0.68, 0.08, 0.12, 0.12]))
            )
            if kind == "plate" and len(self.kinds) == PAGES_PER_BOOK - 1:
                kind = "figures"
            self.kinds.append(kind)
            on_top, below = self._blocks(kind)
            if lone:
                on_top.insert(0, LoneCaption(lone))
            lone = on_top[0].plans[0].caption if kind == "plate" and isinstance(on_top[0], Figure) else None
            wide.append(on_top)
            flowing.append(below)
        self._write_body(wide, flowing)
        sheets = []
        carried: list[Block] = []
        for number, (on_top, below) in enumerate(zip(wide, flowing, strict=True)):
            sheet = Sheet(self.style, number)
            for block in on_top:
                if isinstance(block, Figure | LoneCaption):
                    sheet.place_wide(block, at_bottom=self.kinds[number] == "plate" and isinstance(block, Figure))
            left_over = sheet.flow(sheet.frames(), carried + below)
            # Body text goes on overleaf; a figure or heading that found no room is left out.
            carried = list[Block](block for block in left_over if isinstance(block, Paragraph))[:1]
            sheets.append(sheet)
        return sheets

    def _blocks(self, kind: str) -> tuple[list[Block], list[Block]]:
        """Returns the blocks over all columns and those in the columns, without the body text."""
        rng = self.rng
        if kind == "plate":
            plan = self._figure(wide=True, place="next page")
            return [Figure((plan,), wide=True)], []
        if kind == "distractors":
            return [], [self._distractor() for _ in range(int(rng.integers(1, 3)))]
        if kind != "figures":
            return [], []
        on_top: list[Block] = []
        below: list[Block] = []
        if self.style.num_columns == 2:
            if rng.random() < 0.4:
                on_top.append(Figure((self._figure(wide=True),), wide=True))
            below += [Figure((self._figure(wide=False),)) for _ in range(int(rng.integers(0 if on_top else 1, 3)))]
        elif rng.random() < 0.2:
            below.append(Figure((self._figure(wide=False), self._figure(wide=False))))
        else:
            below += [Figure((self._figure(wide=True),)) for _ in range(int(rng.choice([1, 1, 2])))]
        if rng.random() < 0.25:
            below.append(self._distractor())
        return on_top, below

    def _figure(self, *, wide: bool, place: str = "") -> FigurePlan:
        rng = self.rng
        num_panels = int(rng.choice([1, 2, 3, 4, 6], p=[0.26, 0.32, 0.14, 0.22, 0.06]))
        if not wide:
            num_panels = min(num_panels, int(rng.choice([1, 2, 4])))
        rows = choose_rows(rng, num_panels)
        if not wide and max(rows) > 2:
            rows = (2, 2)
        place = place or (self._place if wide or self._place != "beside" else "below")
        if rng.random() < 0.1 and place == "below":
            place = "above"
        head = self._head.format(c=self._chapter, n=self._next_number)
        number = self._mention_number(self._next_number)
        self._next_number += 1
        if rng.random() < 0.08 and place in ("below", "above") and num_panels <= 2:
            head = number = ""
        style = str(
            rng.choice(["labelled", "places", "unlabelled", "mismatched", "undivided"], p=[0.7, 0.12, 0.06, 0.05, 0.07])
        )
        if num_panels == 1:
            style = "undivided"
        elif (style == "places" and num_panels != 2) or (style == "mismatched" and num_panels < 3) or not head:
            style = "labelled"
        caption, names = self._caption(style, head, rows)
        return FigurePlan(
            number=number,
            rows=rows,
            caption=caption,
            labels=names,
            separator=self._separator if rng.random() < 0.6 else pick(rng, tuple(SEPARATORS)),
            mark=self._mark,
            corner=self._corner if rng.random() < 0.8 else pick(rng, CORNERS),
            place=place,
            kind=choose_kind(rng),
            aspect=float(rng.uniform(0.55, 0.85)) if wide else float(rng.uniform(0.6, 0.9)),
            seed=int(rng.integers(2**31)),
        )

    def _caption(self, style: str, head: str, rows: tuple[int, ...]) -> tuple[CaptionPlan, tuple[str, ...]]:
        """Builds a caption for a figure of these rows, and the label printed on each panel (empty for none)."""
        rng, language = self.rng, self.style.language
        num_panels = sum(rows)
        names: tuple[str, ...] = ("",) * num_panels
        order = tuple(range(num_panels))
        if style == "places":
            caption = captions.placed(rng, language, head, "row" if rows == (2,) else "column")
        elif style == "undivided":
            caption = captions.undivided(rng, language, head, num_panels)
            if num_panels > 1 and rng.random() < 0.5:
                names = captions.label_names("A", num_panels)
        elif style == "mismatched":
            caption = captions.mismatched(rng, language, head, num_panels)
            names = captions.label_names("A", num_panels)
        else:
            if rows == (2, 2) and rng.random() < 0.12 and style == "labelled":
                order = (0, 2, 1, 3)
            caption = captions.labelled(rng, language, head, self._alphabet, order)
            if style == "labelled":
                printed = captions.label_names(self._alphabet, num_panels)
                decorated = pick(rng, ("{}", "{}", "({})", "{}.")) if self._alphabet in "Aa" else "{}"
                names = tuple(decorated.format(printed[order.index(at)]) for at in range(num_panels))
        return caption, names

    def _distractor(self) -> Distractor:
        rng, language = self.rng, self.style.language
        kind = pick(rng, distractors.KINDS)
        text = ""
        if kind == "table":
            text = (
                f"Table {rng.integers(1, 9)}. {words.title(rng, language)}"
                if language == "en"
                else f"表{rng.integers(1, 9)} {words.title(rng, language)}"
            )
        elif kind == "qr code":
            text = words.title(rng, language) + ("（图片）" if language == "zh" else " (video)")
        elif kind in distractors.CAPTIONED:
            text = f"{self._head.format(c=self._chapter, n=self._next_number)}  {words.title(rng, language)}"
            self._next_number += 1
        return Distractor(kind, text, int(rng.integers(2**31)))

    def _mention_number(self, number: int) -> str:
        sign = next((sign for sign in (".", "–", "－", "-") if f"}}{sign}{{" in self._head), "")
        return f"{self._chapter}{'-' if sign == '－' else sign}{number}" if sign else str(number)

    def _write_body(self, wide: list[list[Block]], flowing: list[list[Block]]) -> None:
        """Writes paragraphs around the blocks of every page, with sentences that refer to its figures."""
        rng, language = self.rng, self.style.language
        waiting: list[list[Sentence]] = [[] for _ in flowing]
        for page, (on_top, below) in enumerate(zip(wide, flowing, strict=True)):
            figures = [block for block in (*on_top, *below) if isinstance(block, Figure)]
            for plan in (plan for figure in figures for plan in figure.plans):
                for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.2, 0.4, 0.3, 0.1])) if plan.number else 0):
                    where = int(np.clip(page + rng.choice([-1, 0, 0, 0, 1]), 0, len(flowing) - 1))
                    waiting[where].append(self._reference(plan))
        for page, blocks in enumerate(flowing):
            short = self.kinds[page] in ("figures", "plate", "after a plate")
            for place in range(int(rng.integers(2, 4)) if short else int(rng.integers(3, 6))):
                sentences = [Sentence(words.sentence(rng, language)) for _ in range(int(rng.integers(2, 5)))]
                if rng.random() < 0.15:
                    other = f"{self._chapter + 40}-{rng.integers(1, 40)}"
                    mention = f"图{other}" if language == "zh" else f"Fig. {other}"
                    sentences.append(Sentence(words.reference(rng, language, mention)))
                for _ in range(min(2, len(waiting[page]))):
                    sentences.insert(int(rng.integers(0, len(sentences) + 1)), waiting[page].pop())
                self.sentences += sentences
                at = int(rng.integers(0, len(blocks) + 1)) if place else 0
                blocks.insert(at, Paragraph(sentences))
                if rng.random() < 0.25:
                    blocks.insert(at, Heading(words.heading(rng, language)))

    def _reference(self, plan: FigurePlan) -> Sentence:
        """Builds a sentence that refers to a figure, or to some of its panels."""
        rng, language = self.rng, self.style.language
        word = "图" if language == "zh" else pick(rng, ("Fig. ", "Figure ", "Fig. "))
        mention, panels = f"{word}{plan.number}", tuple[int, ...]()
        letters = plan.caption.grammar in ("before", "after", "range", "list") and self._alphabet in "Aa①"
        if letters and rng.random() < 0.65:
            mention, panels = self._panel_mention(plan, word)
        elif plan.caption.grammar == "places" and rng.random() < 0.6:
            side = int(rng.integers(2))
            places = ("left", "right") if plan.rows == (2,) else ("top", "bottom")
            chinese = dict(zip(("left", "right", "top", "bottom"), "左右上下", strict=True))
            mention += chinese[places[side]] if language == "zh" else f", {places[side]}"
            panels = (side,)
        return Sentence(words.reference(rng, language, mention), (plan.number, panels))

    def _panel_mention(self, plan: FigurePlan, word: str) -> tuple[str, tuple[int, ...]]:
        rng = self.rng
        panels_of = {}
        names = captions.label_names(self._alphabet, sum(plan.rows))
        printed = [label.strip("().") for label in plan.labels]
        for name, at in zip(names, range(len(names)), strict=True):
            panels_of[name] = printed.index(name) if name in printed else at
        first = int(rng.integers(len(names)))
        if len(names) > 1 and rng.random() < 0.3:
            first = min(first, len(names) - 2)
            last = first + (1 if self._alphabet == "①" or rng.random() < 0.6 else min(2, len(names) - 1 - first))
            chosen = names[first : last + 1]
            if self.style.language == "zh":
                joined = (
                    chosen[0] + pick(rng, ("、", "和")) + chosen[1]
                    if len(chosen) == 2
                    else f"{chosen[0]}～{chosen[-1]}"
                )
            else:
                joined = (
                    f"{chosen[0]}{pick(rng, (' and ', ', ', '–'))}{chosen[1]}"
                    if len(chosen) == 2
                    else f"{chosen[0]}–{chosen[-1]}"
                )
            return f"{word}{plan.number}{joined}", tuple(panels_of[name] for name in chosen)
        return f"{word}{plan.number}{names[first]}", (panels_of[names[first]],)


def _true_pairs(sheet: Sheet, sentences: Sequence[Sentence], degrees: float) -> list[TruePair]:
    pairs = []
    for plan in dict.fromkeys(plan for plan, _, _ in sheet.panels):
        boxes = {place: box for other, place, box in sheet.panels if other is plan}
        for places, caption in plan.caption.truths:
            x0, y0, x1, y1 = zip(*(boxes[place] for place in places), strict=True)
            sure, unsure = _references(plan, places, sheet.number, sentences)
            box = _on_scan((min(x0), min(y0), max(x1), max(y1)), degrees, sheet.style)
            pairs.append(TruePair(box, caption, sure, unsure, plan.variations))
    return pairs


def _on_scan(box: Box, degrees: float, style: Style) -> Box:
    """Converts a box of the page as it was set to shares of the scan's width and height."""
    x0, y0, x1, y1 = turned_box(box, degrees, style.width, style.height)
    return x0 / style.width, y0 / style.height, x1 / style.width, y1 / style.height


def _references(
    plan: FigurePlan, places: Sequence[int], page: int, sentences: Sequence[Sentence]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the sentences on the page and its neighbours that refer to the panels: complete and partial ones."""
    sure, unsure = [], []
    for sentence in sentences:
        if sentence.mention is None or sentence.mention[0] != plan.number or not plan.number:
            continue
        if sentence.mention[1] and not set(sentence.mention[1]) & set(places):
            continue
        inside = [abs(number - page) <= 1 for number in sentence.pages]
        if inside and all(inside) and sentence.finished:
            sure.append(sentence.text)
        elif any(inside):
            unsure.append(sentence.text)
    return tuple(dict.fromkeys(sure)), tuple(dict.fromkeys(unsure))
