"""Draws things on a page that are no specimen: a table, a line chart, a QR code."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components.data_processing.teaching_atlas.canvas import Colour

_RULE: Colour = (70, 70, 74)
_CURVES: tuple[Colour, ...] = ((190, 50, 40), (40, 80, 170))


def draw_table(
    draw: ImageDraw.ImageDraw,
    rows: tuple[tuple[str, ...], ...],
    font: ImageFont.FreeTypeFont,
    place: tuple[float, float, float],
) -> float:
    """Draws a table of equal columns with ruled rows at (left, top, right); returns its lower edge."""
    left, top, right = place
    column, row = (right - left) / len(rows[0]), 56
    for number, cells in enumerate(rows):
        y = top + number * row
        draw.line((left, y, right, y), _RULE, 3 if number < 2 else 1)
        for place_in_row, cell in enumerate(cells):
            draw.text((left + 20 + place_in_row * column, y + 10), cell, _RULE, font)
    bottom = top + len(rows) * row
    draw.line((left, bottom, right, bottom), _RULE, 3)
    return bottom


def draw_chart(
    draw: ImageDraw.ImageDraw,
    curves: tuple[tuple[float, ...], ...],
    font: ImageFont.FreeTypeFont,
    box: tuple[int, int, int, int],
) -> None:
    """Draws a line chart with axes and ticks into a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    draw.line((left, top, left, bottom - 40, right, bottom - 40), _RULE, 3)
    highest = max(max(curve) for curve in curves)
    for curve, colour in zip(curves, _CURVES, strict=False):
        x = np.linspace(left + 30, right - 20, len(curve))
        y = bottom - 50 - np.array(curve) / highest * (bottom - top - 80)
        for start, end in pairwise(zip(x.tolist(), y.tolist(), strict=True)):
            draw.line((*start, *end), colour, 4)
        for centre_x, centre_y in zip(x.tolist(), y.tolist(), strict=True):
            draw.ellipse((centre_x - 7, centre_y - 7, centre_x + 7, centre_y + 7), colour)
    for number, tick in enumerate(np.linspace(left + 30, right - 20, len(curves[0])).tolist()):
        draw.text((tick - 22, bottom - 32), str(2010 + 2 * number), _RULE, font)
    for share in (0.25, 0.5, 0.75, 1.0):
        level = bottom - 50 - share * (bottom - top - 80)
        draw.text((left - 60, level - 12), f"{share * highest:.0f}", _RULE, font)


def qr_code(text: str, size_px: int) -> Image.Image:
    """Returns a square QR code with its quiet zone that decodes to `text`."""
    modules = cv2.QRCodeEncoder.create().encode(text)
    return Image.fromarray(modules).convert("RGB").resize((size_px, size_px), Image.Resampling.NEAREST)
