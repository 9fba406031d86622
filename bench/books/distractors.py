"""Draws what is no figure of a specimen: codes, logos, ornaments, tables, charts, drawings."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from PIL import Image, ImageDraw

from bench.books import words
from bench.books.fonts import load_font
from bench.books.specimens import specimen
from bench.books.words import Language, pick

KINDS = ("qr code", "logo", "ornament", "table", "line chart", "bar chart", "drawing", "diagram", "photograph")
CAPTIONED = ("line chart", "bar chart", "drawing", "diagram")
"""Kinds that bear a figure's caption in books."""

_INK = (40, 40, 44)
_COLOURS = ((196, 60, 50), (50, 90, 170), (60, 150, 90), (220, 160, 50), (130, 90, 160))


def distractor(rng: np.random.Generator, kind: str, width: int, language: Language) -> Image.Image:
    """Draws a picture of one of `KINDS` at most `width` wide."""
    match kind:
        case "qr code":
            image = qr_code(str(rng.integers(10**9)), min(width, int(rng.integers(120, 220))))
        case "logo":
            image = _logo(rng, min(width, int(rng.integers(90, 200))))
        case "ornament":
            image = _ornament(rng, width)
        case "table":
            image = _table(rng, width, language)
        case "drawing":
            image = _drawing(rng, width)
        case "diagram":
            image = _diagram(rng, width, language)
        case "photograph":
            image = Image.fromarray(specimen(rng, (width, round(0.45 * width)), "gross"))
        case _:
            image = _chart(rng, width, bars=kind == "bar chart")
    return image


def qr_code(text: str, size_px: int) -> Image.Image:
    """Draws a QR code that decodes to `text`."""
    modules = cv2.QRCodeEncoder.create().encode(text)
    return Image.fromarray(modules).convert("RGB").resize((size_px, size_px), Image.Resampling.NEAREST)


def _blank(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), (255, 255, 255))
    return image, ImageDraw.Draw(image)


def _logo(rng: np.random.Generator, size: int) -> Image.Image:
    image, draw = _blank(size, size)
    colour = pick(rng, _COLOURS)
    draw.ellipse((2, 2, size - 3, size - 3), fill=colour)
    draw.ellipse((size * 0.2, size * 0.2, size * 0.8, size * 0.8), fill=(255, 255, 255))
    draw.polygon([(size * 0.5, size * 0.26), (size * 0.72, size * 0.7), (size * 0.28, size * 0.7)], fill=colour)
    return image


def _ornament(rng: np.random.Generator, width: int) -> Image.Image:
    image, draw = _blank(width, int(rng.integers(60, 140)))
    colour = pick(rng, _COLOURS)
    if rng.random() < 0.5:
        draw.rectangle((0, 0, width, image.height), fill=colour)
        draw.rectangle((0, image.height - 12, width // 3, image.height), fill=pick(rng, _COLOURS))
    else:
        for x in range(0, width, 40):
            draw.polygon([(x, image.height), (x + 20, 0), (x + 40, image.height)], fill=colour)
    return image


def _table(rng: np.random.Generator, width: int, language: Language) -> Image.Image:
    columns, rows, row_px = int(rng.integers(2, 5)), int(rng.integers(4, 8)), 52
    image, draw = _blank(width, rows * row_px + 4)
    font = load_font("zh" if language == "zh" else "sans", 22)
    shaded = rng.random() < 0.4
    for row in range(rows):
        if shaded and row % 2 == 0:
            draw.rectangle((0, row * row_px, width, (row + 1) * row_px), fill=(222, 230, 240))
        for column in range(columns):
            text = words.heading(rng, language)[:14] if rng.random() < 0.6 else f"{rng.integers(100)} %"
            draw.text((column * width / columns + 12, row * row_px + 12), text, _INK, font)
    for row in (0, 1, rows) if rng.random() < 0.5 else range(rows + 1):
        draw.line((0, row * row_px, width, row * row_px), _INK, 2)
    return image


def _chart(rng: np.random.Generator, width: int, *, bars: bool) -> Image.Image:
    height = round(0.6 * width)
    image, draw = _blank(width, height)
    font = load_font("sans", 20)
    left, bottom = 70, height - 50
    draw.line((left, 10, left, bottom, width - 10, bottom), _INK, 3)
    values = rng.uniform(0.1, 0.95, int(rng.integers(4, 9)))
    step = (width - left - 30) / len(values)
    tops = [bottom - value * (bottom - 30) for value in values.tolist()]
    for number, top in enumerate(tops):
        x = left + 15 + number * step
        if bars:
            draw.rectangle((x, top, x + 0.7 * step, bottom), fill=_COLOURS[0 if len(values) > 6 else number % 5])
        draw.text((x, bottom + 10), str(2012 + number), _INK, font)
    if not bars:
        points = [(left + 15 + number * step, top) for number, top in enumerate(tops)]
        for start, end in pairwise(points):
            draw.line((*start, *end), _COLOURS[1], 4)
    for share in (0.25, 0.5, 0.75, 1.0):
        draw.text((10, bottom - share * (bottom - 30) - 10), f"{100 * share:.0f}", _INK, font)
    return image


def _drawing(rng: np.random.Generator, width: int) -> Image.Image:
    height = round(0.6 * width)
    image, draw = _blank(width, height)
    font = load_font("sans", 22)
    for _ in range(int(rng.integers(4, 9))):
        x, y = rng.uniform(0.1, 0.7) * width, rng.uniform(0.1, 0.6) * height
        size = rng.uniform(0.08, 0.28) * width
        draw.ellipse((x, y, x + size, y + 0.7 * size), outline=_INK, width=4)
        draw.line((x + size / 2, y + size / 3, min(x + size, width * 0.9), y - 20), _INK, 2)
        draw.text(
            (min(x + size, width * 0.85), max(y - 44, 0)), pick(rng, ("nucleus", "wall", "a", "lumen")), _INK, font
        )
    return image


def _diagram(rng: np.random.Generator, width: int, language: Language) -> Image.Image:
    height = round(0.55 * width)
    image, draw = _blank(width, height)
    font = load_font("zh" if language == "zh" else "sans", 22)
    columns, rows = 3, 2
    cell_w, cell_h = width / columns, height / rows
    for row in range(rows):
        for column in range(columns):
            x, y = column * cell_w + 15, row * cell_h + 15
            colour = pick(rng, ((250, 220, 170), (200, 225, 250), (215, 240, 205), (245, 205, 205)))
            draw.rounded_rectangle((x, y, x + cell_w - 50, y + cell_h - 50), 18, fill=colour, outline=_INK, width=3)
            draw.text((x + 14, y + cell_h / 2 - 40), words.heading(rng, language)[:12], _INK, font)
            if column < columns - 1:
                middle = y + cell_h / 2 - 25
                draw.line((x + cell_w - 50, middle, x + cell_w - 4, middle), _INK, 4)
    return image
