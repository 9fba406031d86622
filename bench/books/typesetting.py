"""Sets planned pages: one or two columns, figures with their captions, running heads, body text that flows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.books import distractors
from bench.books.captions import CaptionPlan
from bench.books.figures import Box, FigurePlan, draw_figure
from bench.books.fonts import load_font
from bench.books.words import Language

# A Latin word or one other character, with the punctuation that must not begin a line.
_TOKEN = re.compile(r"[(\[（“]*(?:[!-'*-Z\\^-~–×α-ω]+[!-~–]*|\S)[)\]，。；：、）”.,;:]*\s*")


@dataclass(frozen=True)
class Style:
    """Style of a book; lengths in pixels of its pages."""

    language: Language
    width: int
    height: int
    margins: tuple[int, int, int, int]
    num_columns: int
    column_gap: int
    body_font: str
    body_px: int
    leading: float
    indent: int
    caption_font: str
    caption_px: int
    caption_align: str
    head_bold: bool
    caption_gap: int
    accent: tuple[int, int, int]
    paper: tuple[int, int, int]
    header: str

    @property
    def bold(self) -> str:
        """The bold face of the caption's font."""
        return "zh" if self.language == "zh" else f"{self.caption_font.split()[0]} bold"


@dataclass
class Sentence:
    """Sentence of the body; `mention` names the figure and the panel places that it refers to (none for all)."""

    text: str
    mention: tuple[str, tuple[int, ...]] | None = None
    pages: set[int] = field(default_factory=set)
    rest: str | None = None

    @property
    def finished(self) -> bool:
        """True once all of it is set."""
        return self.rest == ""


@dataclass
class Paragraph:
    """Sentences set as one paragraph."""

    sentences: list[Sentence]


@dataclass
class Heading:
    """A heading in the body."""

    text: str


@dataclass
class Figure:
    """Figure in the flow (`wide` spans all columns); two plans stand side by side."""

    plans: tuple[FigurePlan, ...]
    wide: bool = False


@dataclass
class LoneCaption:
    """Caption at the top of a page, whose figure stands on the page before."""

    caption: CaptionPlan


@dataclass
class Distractor:
    """Picture that is no figure, with a text below it; `numbered` text reads like a figure's caption."""

    kind: str
    text: str
    seed: int


Block = Paragraph | Heading | Figure | LoneCaption | Distractor


@dataclass
class Frame:
    """Column that is being filled from `y` to `bottom`."""

    left: int
    right: int
    y: float
    bottom: float

    @property
    def width(self) -> int:
        """Width of the column."""
        return self.right - self.left


class Sheet:
    """Page while it is set.

    Attributes:
        panels: Every panel set, with its figure's plan and its place among the figure's panels.
        distractors: The kind and box of everything else that is a picture.
    """

    def __init__(self, style: Style, number: int) -> None:
        self.style = style
        self.number = number
        self.image = Image.new("RGB", (style.width, style.height), (255, 255, 255))
        self.draw = ImageDraw.Draw(self.image)
        self.panels: list[tuple[FigurePlan, int, Box]] = []
        self.distractors: list[tuple[str, Box]] = []
        left, top, right, bottom = style.margins
        self.area = Frame(left, style.width - right, top, style.height - bottom)
        self._running_head()

    def frames(self) -> list[Frame]:
        """Returns the columns of what is left of the page."""
        style, area = self.style, self.area
        width = (area.width - style.column_gap * (style.num_columns - 1)) // style.num_columns
        lefts = [area.left + number * (width + style.column_gap) for number in range(style.num_columns)]
        return [Frame(left, left + width, area.y, area.bottom) for left in lefts]

    def place_wide(self, block: Figure | LoneCaption, *, at_bottom: bool = False) -> bool:
        """Sets a block over all columns at the top or bottom of what is left; False where it does not fit."""
        height = self._height(block, self.area.width)
        if height > self.area.bottom - self.area.y:
            return False
        if at_bottom:
            self.area.bottom -= height
            self._set(block, Frame(self.area.left, self.area.right, self.area.bottom, self.area.bottom + height))
        else:
            self._set(block, self.area)
        return True

    def flow(self, frames: list[Frame], blocks: list[Block]) -> list[Block]:
        """Sets blocks in the columns, one after the other; returns what did not fit."""
        frames = list(frames)
        left_over: list[Block] = []
        for block in blocks:
            if not frames:
                left_over.append(block)
            elif isinstance(block, Paragraph):
                frames = self._paragraph(block, frames)
                if not frames and not all(sentence.finished for sentence in block.sentences):
                    left_over.append(block)
            else:
                while frames and self._height(block, frames[0].width) > frames[0].bottom - frames[0].y:
                    if isinstance(block, Heading) or frames[0].y < frames[0].bottom - 0.5 * self.area.bottom:
                        break
                    frames = frames[1:]
                if frames and self._height(block, frames[0].width) <= frames[0].bottom - frames[0].y:
                    self._set(block, frames[0])
                else:
                    left_over.append(block)
        return left_over

    def _running_head(self) -> None:
        style = self.style
        font = load_font("zh" if style.language == "zh" else "sans", 24)
        width = font.getlength(style.header)
        x = style.width - style.margins[2] - width if self.number % 2 else style.margins[0]
        y = max(style.margins[1] - 80, 24)
        self.draw.text((x, y), style.header, style.accent, font)
        foot = style.height - max(style.margins[3] - 70, 60)
        self.draw.text((style.width / 2 - 20, foot), str(self.number + 1), (40, 40, 40), font)

    def _set(self, block: Block, frame: Frame) -> None:
        if isinstance(block, Heading):
            font = load_font(
                "zh" if self.style.language == "zh" else f"{self.style.body_font.split()[0]} bold",
                self.style.body_px + 5,
            )
            self.draw.text((frame.left, frame.y + 10), block.text, self.style.accent, font)
            frame.y += 2.1 * font.size
        elif isinstance(block, Figure):
            self._figures(block, frame)
        elif isinstance(block, LoneCaption):
            frame.y += self._caption(block.caption, frame.left, frame.right, frame.y) + 30
        elif isinstance(block, Distractor):
            self._distractor(block, frame)

    def _height(self, block: Block, width: int) -> float:
        """Returns the height of a block at a width, measured by setting it on a sheet that is thrown away."""
        blank = object.__new__(Sheet)
        blank.style, blank.number, blank.panels = self.style, self.number, []
        blank.distractors = []
        blank.image = Image.new("RGB", (1, 1))
        blank.draw = ImageDraw.Draw(blank.image)
        frame = Frame(0, width, 0.0, 1e9)
        blank._set(block, frame)
        return frame.y

    def _figures(self, block: Figure, frame: Frame) -> None:
        """Sets one figure, or two side by side, each with its caption."""
        gap = 40
        width = (frame.width - gap * (len(block.plans) - 1)) // len(block.plans)
        bottoms = []
        for number, plan in enumerate(block.plans):
            left = frame.left + number * (width + gap)
            bottoms.append(self._figure(plan, left, left + width, frame.y + 24))
        frame.y = max(bottoms) + 40

    def _figure(self, plan: FigurePlan, left: int, right: int, y: float) -> float:
        """Sets a figure and its caption between two edges; returns where it ends."""
        rng = np.random.default_rng(plan.seed)
        width = right - left
        gap = self.style.caption_gap
        if plan.place == "beside":
            figure_width = round(width * 0.62)
            image, boxes = draw_figure(plan, figure_width)
            on_left = rng.random() < 0.5
            x = left if on_left else right - figure_width
            edges = (left + figure_width + 30, right) if on_left else (left, right - figure_width - 30)
            self._paste(plan, image, boxes, x, y)
            height = self._caption(plan.caption, *edges, y, align="left", measure=True)
            top = y if rng.random() < 0.5 else max(y + image.height - height, y)
            self._caption(plan.caption, *edges, top, align="left")
            return y + max(image.height, height)
        share = float(rng.uniform(0.72, 1.0)) if sum(plan.rows) < 3 and width > 700 else 1.0
        figure_width = round(width * share)
        image, boxes = draw_figure(plan, figure_width)
        x = left + (width - figure_width) // 2
        edges = (x, x + figure_width) if rng.random() < 0.4 else (left, right)
        if plan.place == "above":
            y += self._caption(plan.caption, *edges, y) + gap
        self._paste(plan, image, boxes, x, y)
        y += image.height
        if plan.place == "below":
            y += gap + self._caption(plan.caption, *edges, y + gap)
        return y

    def _paste(self, plan: FigurePlan, image: Image.Image, boxes: list[Box], x: int, y: float) -> None:
        top = round(y)
        self.image.paste(image, (x, top))
        for place, (x0, y0, x1, y1) in enumerate(boxes):
            self.panels.append((plan, place, (x0 + x, y0 + top, x1 + x, y1 + top)))

    def _caption(
        self, caption: CaptionPlan, left: int, right: int, y: float, *, align: str = "", measure: bool = False
    ) -> float:
        """Sets a caption; returns its height."""
        style = self.style
        font = load_font(style.caption_font, style.caption_px)
        head_font = load_font(style.bold, style.caption_px) if style.head_bold else font
        head = f"{caption.head}  " if caption.head else ""
        lines = _broken(caption.body, font, right - left, right - left - head_font.getlength(head))
        for number, line in enumerate(lines):
            words = "".join(line).rstrip()
            width = font.getlength(words) + (head_font.getlength(head) if number == 0 else 0)
            centred = (align or style.caption_align) == "centre"
            x = left + (right - left - width) / 2 if centred else float(left)
            top = y + number * 1.32 * style.caption_px
            if not measure:
                if number == 0 and head:
                    # The Chinese font has one weight: set twice, a pixel apart, it is bold and still legible.
                    for shift in (0, 1) if style.head_bold and style.language == "zh" else (0,):
                        self.draw.text((x + shift, top), head, style.accent, head_font)
                    x += head_font.getlength(head)
                self.draw.text((x, top), words, (30, 30, 34), font)
        return len(lines) * 1.32 * style.caption_px

    def _distractor(self, block: Distractor, frame: Frame) -> None:
        rng = np.random.default_rng(block.seed)
        width = frame.width if block.kind in ("table", "ornament") else round(frame.width * 0.8)
        image = distractors.distractor(rng, block.kind, width, self.style.language)
        above = block.kind == "table"
        caption = CaptionPlan("", block.text, (), "")
        y = frame.y + 20
        if above:
            y += self._caption(caption, frame.left, frame.right, y, align="centre") + 10
        x, top = round(frame.left + (frame.width - image.width) / 2), round(y)
        self.image.paste(image, (x, top))
        self.distractors.append((block.kind, (x, top, x + image.width, top + image.height)))
        y += image.height + 12
        if not above and block.text:
            y += self._caption(caption, frame.left, frame.right, y, align="centre")
        frame.y = y + 30

    def _paragraph(self, block: Paragraph, frames: list[Frame]) -> list[Frame]:
        """Sets the sentences of a paragraph that are not set yet; returns the columns that still have room."""
        style = self.style
        font = load_font(style.body_font, style.body_px)
        tokens: list[tuple[str, Sentence]] = []
        for sentence in block.sentences:
            if not sentence.finished:
                found = _TOKEN.findall(sentence.text if sentence.rest is None else sentence.rest)
                if style.language == "en" and found:
                    found[-1] += " "
                tokens += [(token, sentence) for token in found]
        first = not any(sentence.pages for sentence in block.sentences)
        at = 0
        while at < len(tokens) and frames:
            frame = frames[0]
            if frame.y + style.leading * style.body_px > frame.bottom:
                frames = frames[1:]
                continue
            x = float(frame.left + (style.indent if first else 0))
            first = False
            line: list[str] = []
            used = 0.0
            while at < len(tokens):
                token, sentence = tokens[at]
                if line and x + used + font.getlength(token.rstrip()) > frame.right:
                    break
                line.append(token)
                used += font.getlength(token)
                sentence.pages.add(self.number)
                at += 1
            spread = frame.right - x - font.getlength("".join(line).rstrip())
            spread = spread / max(len(line) - 1, 1) if at < len(tokens) else 0.0
            for token in line:
                self.draw.text((x, frame.y), token, (28, 28, 30), font)
                x += font.getlength(token) + spread
            frame.y += style.leading * style.body_px
        for sentence in block.sentences:
            sentence.rest = ""
        for token, sentence in tokens[at:]:
            sentence.rest = f"{sentence.rest}{token}"
        if frames:
            frames[0].y += 0.4 * style.body_px
        return frames


def _broken(text: str, font: ImageFont.FreeTypeFont, width: float, first_width: float) -> list[list[str]]:
    """Breaks text into lines of tokens that fit a width, the first line another one."""
    lines: list[list[str]] = [[]]
    used, room = 0.0, first_width
    for token in _TOKEN.findall(text):
        if lines[-1] and used + font.getlength(token.rstrip()) > room:
            lines.append([])
            used, room = 0.0, width
        lines[-1].append(token)
        used += font.getlength(token)
    return lines
