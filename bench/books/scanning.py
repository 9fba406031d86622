"""Degrades pages as a scanner does: skew, noise, shadows, compression."""

from __future__ import annotations

import io
import math

import cv2
import numpy as np
from PIL import Image

from bench.books.figures import Box

DEGRADATIONS = ("clean", "skew", "noise", "shadow", "jpeg", "all")
_LARGEST_SKEW_DEGREES = 3.0


def degrade(page: Image.Image, rng: np.random.Generator, kind: str, paper: tuple[int, int, int]) -> tuple[bytes, float]:
    """Returns the encoded file that a scanner would leave of the page, and the degrees by which it was turned.

    Args:
        page: The page as it was set.
        rng: Chooses strengths.
        kind: One of `DEGRADATIONS`; `all` has every one of them.
        paper: The paper's colour.
    """
    degrees = 0.0
    if kind in ("skew", "all"):
        degrees = float(rng.uniform(0.4, _LARGEST_SKEW_DEGREES)) * (1 if rng.random() < 0.5 else -1)
        page = page.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
    pixels = np.asarray(page).astype(np.float32) * (np.array(paper, dtype=np.float32) / 255)
    if kind in ("shadow", "all"):
        pixels *= _light(rng, page.width, page.height)[..., None]
    if kind in ("noise", "all"):
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.5, 1.1)))
        pixels += rng.normal(0, rng.uniform(4, 9), (page.height, page.width, 1)).astype(np.float32)
        specks = rng.random((page.height, page.width)) < 0.0002
        pixels[cv2.dilate(specks.astype(np.uint8), np.ones((2, 2), np.uint8)) == 1] = 60
    quality = int(rng.integers(22, 45)) if kind in ("jpeg", "all") else 93
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue(), degrees


def turned_box(box: Box, degrees: float, width: int, height: int) -> Box:
    """Returns the upright box around a box that was turned with its page.

    >>> turned_box((1.0, 2.0, 3.0, 4.0), 0.0, 10, 10)
    (1.0, 2.0, 3.0, 4.0)
    """
    turn = math.radians(degrees)
    corners = [(x - width / 2, y - height / 2) for x in (box[0], box[2]) for y in (box[1], box[3])]
    xs = [x * math.cos(turn) + y * math.sin(turn) + width / 2 for x, y in corners]
    ys = [y * math.cos(turn) - x * math.sin(turn) + height / 2 for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _light(rng: np.random.Generator, width: int, height: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Returns the light on each pixel: darker at the spine and towards one corner."""
    across = np.linspace(0, 1, width, dtype=np.float32)
    across = across if rng.random() < 0.5 else across[::-1]
    spine = 1 - rng.uniform(0.2, 0.45) * np.exp(-across / rng.uniform(0.03, 0.08))
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)
    corner = rng.uniform(0.0, 0.22) * np.outer(y if rng.random() < 0.5 else 1 - y, x if rng.random() < 0.5 else 1 - x)
    return np.asarray((spine[None, :] * (1 - corner)).astype(np.float32))
