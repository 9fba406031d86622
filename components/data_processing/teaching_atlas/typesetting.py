"""Typesets a planned page, black on white, and tells where its panels lie."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components.data_processing.teaching_atlas.book_parts import (
    Block,
    BookStyle,
    Chart,
    Figure,
    Heading,
    Page,
    Panel,
    Paragraph,
    Table,
)
from components.data_processing.teaching_atlas.canvas import Colour
from components.data_processing.teaching_atlas.distractors import draw_chart, draw_table, qr_code
from components.data_processing.teaching_atlas.micrographs import render
from components.data_processing.teaching_atlas.specimens import Language, capitalised
from pathoflow.errors import InputError

Box = tuple[float, float, float, float]

PAGE_WIDTH_PX, PAGE_HEIGHT_PX = 1680, 2352
"""Size of a page before it is scanned; all lengths below are pixels of this page."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 200, 1480, 220, 2190
_BODY_PX, _CAPTION_PX, _LINE = 30, 27, 1.5
_FIGURE_SCALES = (1.0, 0.85, 0.7, 0.55)
INK: Colour = (34, 32, 36)

# A Latin word or one other character, with brackets that open before it and punctuation that closes after it.
_TOKEN = re.compile(r"[(\[“（【]*(?:[!-'*-Z\\^-~]+[!-'*-Z\\^-~)\]]*|[^\s])[)\]，。；：、”）】]*\s*")


def font_file(language: Language, *, serif: bool, bold: bool = False) -> Path:
    """Returns the font file for a language from the packages that ship them: DejaVu (matplotlib), Noto Sans SC.

    Raises:
        InputError: The package with the Chinese font is not installed.
    """
    if language == "en":
        name = f"DejaVu{'Serif' if serif else 'Sans'}{'-Bold' if bold else ''}.ttf"
        return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    # find_spec, because importing zhplot changes matplotlib's settings.
    package = find_spec("zhplot")
    if package is None or package.origin is None:
        raise InputError("teaching_atlas needs a Chinese font: pip install 'pathoflow[data]' (package zhplot)")
    return Path(package.origin).parent / "fonts" / "NotoSansSC-Regular.ttf"


@lru_cache(maxsize=32)
def load_font(language: Language, size_px: int, *, serif: bool = True, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Loads a font at a size; the basic layout engine gives the same glyph positions on every machine."""
    path = font_file(language, serif=serif, bold=bold)
    return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)


def break_lines(text: str, font: ImageFont.FreeTypeFont, first_px: float, width_px: float) -> list[list[str]]:
    """Breaks text into lines of tokens that fit `width_px`, the first of them `first_px`."""
    lines: list[list[str]] = [[]]
    used, room = 0.0, first_px
    for token in _TOKEN.findall(text):
        if used + font.getlength(token.rstrip()) > room and lines[-1]:
            lines.append([])
            used, room = 0.0, width_px
        lines[-1].append(token)
        used += font.getlength(token)
    return lines


class Sheet:
    """A page that is typeset from top to bottom.

    Args:
        style: How the book looks.
        figure_scale: Size of the figures as a share of their full size.
    """

    def __init__(self, style: BookStyle, figure_scale: float) -> None:
        self.style = style
        self.figure_scale = figure_scale
        self.image = Image.new("RGB", (PAGE_WIDTH_PX, PAGE_HEIGHT_PX), (255, 255, 255))
        self.draw = ImageDraw.Draw(self.image)
        self.y = float(_TOP)
        self.panel_boxes: dict[tuple[str, str], Box] = {}

    def font(self, size_px: int, *, serif: bool = True, bold: bool = False) -> ImageFont.FreeTypeFont:
        """Returns a font of the book's language."""
        return load_font(self.style.language, size_px, serif=serif, bold=bold)

    def running_header(self, page: Page) -> None:
        """Prints chapter and page number at the outer side."""
        font = self.font(28, serif=False)
        outer_right = page.number % 2 == 1
        width = font.getlength(page.running_header)
        x = _RIGHT - width if outer_right else _LEFT
        self.draw.text((x, 120), page.running_header, self.style.accent, font)
        rule = (_LEFT, 140, x - 30, 144) if outer_right else (x + width + 30, 140, _RIGHT, 144)
        self.draw.rectangle(rule, (196, 198, 202))
        number = str(page.number)
        x = _RIGHT - font.getlength(number) if outer_right else _LEFT
        self.draw.text((x, 2236), number, INK, self.font(32, serif=False))

    def add(self, block: Block) -> None:
        """Sets one block below what is already there."""
        match block:
            case Heading():
                self.heading(block)
            case Paragraph():
                self.paragraph(block)
            case Figure():
                self.figure(block)
            case Table():
                self.table(block)
            case Chart():
                self.chart(block)

    def heading(self, block: Heading) -> None:
        """Sets a heading: a chapter's in the middle, a section's at the indent."""
        size = 46 if block.level == 1 else 34
        font = self.font(size, bold=True)
        x = (_LEFT + _RIGHT - font.getlength(block.text)) / 2 if block.level == 1 else _LEFT + 60
        # The Chinese font has one weight; a thin stroke makes it bold.
        stroke = 1 if self.style.language == "zh" else 0
        self.y += 20
        self.draw.text((x, self.y), block.text, self.style.accent, font, stroke_width=stroke)
        self.y += size * 1.9

    def paragraph(self, block: Paragraph) -> None:
        """Sets justified body text with an indented first line, narrower beside a QR code."""
        right = _RIGHT
        top = self.y
        if block.qr_caption is not None:
            right -= 210
            code = qr_code(f"{self.style.stem} {block.qr_caption}", 150)
            self.image.paste(code, (_RIGHT - 160, round(top)))
            font = self.font(20, serif=False)
            x = _RIGHT - 85 - font.getlength(block.qr_caption) / 2
            self.draw.text((x, top + 158), block.qr_caption, self.style.accent, font)
        text = ("" if self.style.language == "zh" else " ").join(block.sentences)
        self._text(text, self.font(_BODY_PX), indent=60, right=right)
        if block.qr_caption is not None:
            self.y = max(self.y, top + 200)
        self.y += 16

    def _text(self, text: str, font: ImageFont.FreeTypeFont, *, indent: float, right: float) -> None:
        """Draws justified lines from the left margin to `right`."""
        lines = break_lines(text, font, right - _LEFT - indent, right - _LEFT)
        for number, line in enumerate(lines):
            x = _LEFT + (indent if number == 0 else 0)
            line[-1] = line[-1].rstrip()
            slack = right - x - sum(font.getlength(token) for token in line)
            last = number == len(lines) - 1
            spread = 0 if last or len(line) == 1 else slack / (len(line) - 1)
            for token in line:
                self.draw.text((x, self.y), token, INK, font)
                x += font.getlength(token) + spread
            self.y += font.size * _LINE

    def centred(self, text: str, font: ImageFont.FreeTypeFont, colour: Colour) -> None:
        """Draws lines in the middle of the page."""
        for line in break_lines(text, font, _RIGHT - _LEFT - 80, _RIGHT - _LEFT - 80):
            words = "".join(line).rstrip()
            x = (_LEFT + _RIGHT - font.getlength(words)) / 2
            self.draw.text((x, self.y), words, colour, font)
            self.y += font.size * _LINE

    def figure(self, figure: Figure) -> None:
        """Sets the panels in rows and the caption below them."""
        gap, columns = self.style.panel_gap_px, figure.num_columns
        full = 720 if columns == 1 else (_RIGHT - _LEFT - gap * (columns - 1)) // columns
        width = round(full * self.figure_scale)
        height = round(width * (0.62 if columns == 1 else 0.72))
        left = (_LEFT + _RIGHT - columns * width - (columns - 1) * gap) // 2
        self.y += 14
        for place, panel in enumerate(figure.panels):
            row, column = divmod(place, columns)
            x = left + column * (width + gap)
            y = round(self.y) + row * (height + gap)
            self.image.paste(self._panel_image(panel, (width, height)), (x, y))
            self.panel_boxes[figure.number, panel.letter] = (x, y, x + width, y + height)
        num_rows = -(-len(figure.panels) // columns)
        self.y = round(self.y) + num_rows * height + (num_rows - 1) * gap + 18
        self._caption(figure)

    def _panel_image(self, panel: Panel, size_px: tuple[int, int]) -> Image.Image:
        image = render(panel.specimen, np.random.default_rng(panel.seed), size_px)
        if panel.letter:
            font = load_font("en", 36, bold=True)
            mark = self.style.mark(panel.letter)
            y = size_px[1] - 52 if self.style.label_corner == "lower left" else 10
            corner = image.crop((0, max(0, y - 6), 80, y + 52)).convert("L")
            dark = float(np.asarray(corner).mean()) < 110
            ink, halo = ((255, 255, 255), (0, 0, 0)) if dark else ((0, 0, 0), (255, 255, 255))
            ImageDraw.Draw(image).text((16, y), mark, ink, font, stroke_width=2, stroke_fill=halo)
        return image

    def _caption(self, figure: Figure) -> None:
        """Prints number and title, then each panel's part after its label."""
        chinese = self.style.language == "zh"
        title_font = self.font(_CAPTION_PX, serif=False, bold=True)
        number = f"图 {figure.number}" if chinese else f"Fig. {figure.number}"
        self.centred(f"{number}  {figure.title}", title_font, self.style.accent)
        font = self.font(_CAPTION_PX)
        if len(figure.panels) == 1:
            self.centred(capitalised(figure.panels[0].part) + ("。" if chinese else "."), font, INK)
        elif chinese:
            parts = [f"{self.style.mark(panel.letter)}. {panel.part}" for panel in figure.panels]
            self.centred("；".join(parts) + "。", font, INK)
        else:
            label = "({})" if self.style.label != "(a)" else "{}"
            parts = [
                f"{label.format(self.style.mark(panel.letter))} {capitalised(panel.part)}" for panel in figure.panels
            ]
            self.centred("; ".join(parts) + ".", font, INK)
        self.y += 22

    def table(self, block: Table) -> None:
        """Sets a table with its title above."""
        self.y += 10
        self.centred(block.title, self.font(_CAPTION_PX, serif=False, bold=True), self.style.accent)
        self.y = draw_table(self.draw, block.rows, self.font(_CAPTION_PX), (_LEFT + 120, self.y, _RIGHT - 120))
        self.y += 34

    def chart(self, block: Chart) -> None:
        """Sets a line chart with its title below."""
        box = (_LEFT + 290, round(self.y) + 10, _RIGHT - 290, round(self.y) + 340)
        draw_chart(self.draw, block.curves, self.font(20, serif=False), box)
        self.y += 356
        self.centred(block.title, self.font(_CAPTION_PX, serif=False, bold=True), self.style.accent)


def set_page(page: Page, style: BookStyle) -> tuple[Image.Image, dict[tuple[str, str], Box]]:
    """Typesets one page; returns it with the box of each panel by (figure number, panel letter), in pixels.

    Figures are set smaller where the page would otherwise overflow.
    """
    for figure_scale in _FIGURE_SCALES:
        sheet = Sheet(style, figure_scale)
        sheet.running_header(page)
        for block in page.blocks:
            sheet.add(block)
        if sheet.y < _BOTTOM:
            return sheet.image, sheet.panel_boxes
    raise AssertionError(f"page {page.index} of {style.stem} overflows by {sheet.y - _BOTTOM:.0f} px")
