"""Makes a clean page look scanned: tinted paper, a slight skew, a shadow at the spine, grain and soft focus."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from components.data_processing.teaching_atlas.typesetting import Box

_LARGEST_SKEW_DEGREES = 0.7


def scan(page: Image.Image, rng: np.random.Generator, *, spine_left: bool, width_px: int) -> tuple[Image.Image, float]:
    """Scans a page at a width of `width_px`; returns it and the angle in degrees by which it was rotated."""
    angle = float(rng.uniform(-_LARGEST_SKEW_DEGREES, _LARGEST_SKEW_DEGREES))
    # Bilinear turning also softens the type, as a scanner's lens does.
    turned = page.rotate(angle, Image.Resampling.BILINEAR, fillcolor=(255, 255, 255))
    height_px = round(width_px * page.height / page.width)
    if turned.width != width_px:
        turned = turned.resize((width_px, height_px), Image.Resampling.LANCZOS)
    pixels = np.asarray(turned, dtype=np.float32)
    paper = np.array([rng.uniform(0.975, 0.995), rng.uniform(0.965, 0.985), rng.uniform(0.94, 0.965)])
    across = np.linspace(0, 1, width_px)
    from_spine = across if spine_left else 1 - across
    shadow = 1 - rng.uniform(0.12, 0.25) * np.exp(-from_spine / 0.035)
    light = (shadow[:, None] * paper).astype(np.float32)
    grain = rng.standard_normal((height_px, width_px, 1), dtype=np.float32) * np.float32(2.5)
    return Image.fromarray((pixels * light + grain).clip(0, 255).astype(np.uint8)), angle


def scanned_box(box: Box, angle: float, page_size_px: tuple[int, int]) -> Box:
    """Maps a box of the clean page to the scan, as fractions of its width and height.

    The scan's box is the upright rectangle around the turned one.

    >>> scanned_box((0, 0, 50, 50), 0.0, (100, 200))
    (0.0, 0.0, 0.5, 0.25)
    """
    width, height = page_size_px
    x0, y0, x1, y1 = box
    turn = math.radians(angle)
    corners = [(x - width / 2, y - height / 2) for x in (x0, x1) for y in (y0, y1)]
    turned_x = [x * math.cos(turn) + y * math.sin(turn) + width / 2 for x, y in corners]
    turned_y = [y * math.cos(turn) - x * math.sin(turn) + height / 2 for x, y in corners]
    return min(turned_x) / width, min(turned_y) / height, max(turned_x) / width, max(turned_y) / height
