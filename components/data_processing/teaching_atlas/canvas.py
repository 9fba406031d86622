"""Draws shapes in units of the field, so that a scene looks the same at every image size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Points = NDArray[np.float64]

_OVERSAMPLING = 2


class Canvas:
    """An image drawn at twice its size, measured in hundredths of its shorter side.

    Args:
        size_px: Width and height of the finished image.
        background: Colour of the empty field.
    """

    def __init__(self, size_px: tuple[int, int], background: Colour) -> None:
        self.size_px = size_px
        self._scale = _OVERSAMPLING * min(size_px) / 100
        self.width = _OVERSAMPLING * size_px[0] / self._scale
        self.height = _OVERSAMPLING * size_px[1] / self._scale
        drawn = (_OVERSAMPLING * size_px[0], _OVERSAMPLING * size_px[1])
        self.image = Image.new("RGB", drawn, background)
        self._draw = ImageDraw.Draw(self.image)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Fills a circle."""
        s = self._scale
        self._draw.ellipse(((x - radius) * s, (y - radius) * s, (x + radius) * s, (y + radius) * s), fill)

    def discs(self, points: Points, radius: float, fill: Colour) -> None:
        """Fills a circle of one radius at each of the points `[N, 2]`."""
        for x, y in points.tolist():
            self.disc(x, y, radius, fill)

    def blob(self, corners: Points, fill: Colour, edge: Colour | None = None, edge_width: float = 0) -> None:
        """Fills the polygon of the corners `[N, 2]` and draws its edge, if one is asked for."""
        flat = (corners * self._scale).ravel().tolist()
        self._draw.polygon(flat, fill)
        if edge is not None:
            width_px = max(1, round(edge_width * self._scale))
            self._draw.line(flat + flat[:4], edge, width_px, joint="curve")

    def capsule(self, start: Points, end: Points, radius: float, fill: Colour) -> None:
        """Draws a thick line with round ends."""
        (x0, y0), (x1, y1) = start.tolist(), end.tolist()
        s = self._scale
        self._draw.line((x0 * s, y0 * s, x1 * s, y1 * s), fill, round(2 * radius * s))
        self.disc(x0, y0, radius, fill)
        self.disc(x1, y1, radius, fill)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fills an upright rectangle."""
        s = self._scale
        self._draw.rectangle((x0 * s, y0 * s, x1 * s, y1 * s), fill)

    def photograph(self, rng: np.random.Generator, *, noise: float, texture: float) -> Image.Image:
        """Returns the finished picture as a camera sees it: soft, uneven in light and colour, and noisy.

        Args:
            rng: Source of what differs between two pictures of one scene.
            noise: Standard deviation of the pixel noise, in levels of 255.
            texture: Standard deviation of the unevenness across the field, in levels of 255.
        """
        width, height = self.size_px
        sharp = self.image.reduce(_OVERSAMPLING)
        softness_px = rng.uniform(0.2, 0.7) * min(self.size_px) / 112
        pixels = np.asarray(sharp.filter(ImageFilter.GaussianBlur(softness_px)), dtype=np.float32)
        gain = rng.uniform(0.94, 1.06) * rng.uniform(0.97, 1.03, size=3)
        coarse = rng.normal(0, texture, size=(9, 9)).astype(np.float32)
        uneven = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(noise)
        exposed = pixels * gain.astype(np.float32) + np.asarray(uneven)[..., None] + grain
        return Image.fromarray(exposed.clip(0, 255).astype(np.uint8))


def scatter(
    rng: np.random.Generator, canvas: Canvas, pitch: float, *, jitter: float = 0.25, margin: float = 0.5
) -> Points:
    """Returns points `[N, 2]` about `pitch` apart: a jittered, rotated hexagonal grid that covers the field.

    Args:
        rng: Source of the turn, the shift and the shaking.
        canvas: The field to cover.
        pitch: Distance of neighbours in field units.
        jitter: Largest displacement as a share of the pitch.
        margin: How far beyond the border points may lie, as a share of the pitch.
    """
    reach = float(np.hypot(canvas.width, canvas.height)) / 2 + pitch
    steps = np.arange(-reach, reach, pitch)
    rows = np.arange(-reach, reach, pitch * 0.87)
    grid = np.stack(np.meshgrid(steps, rows), axis=-1)
    grid[1::2, :, 0] += pitch / 2
    points = grid.reshape(-1, 2) + rng.uniform(0, pitch, size=2)
    points = points @ rotation(rng.uniform(0, 2 * np.pi))
    points += rng.uniform(-jitter * pitch, jitter * pitch, size=points.shape)
    points += (canvas.width / 2, canvas.height / 2)
    border = margin * pitch
    inside = (points > -border) & (points < (canvas.width + border, canvas.height + border))
    return np.asarray(points[inside.all(axis=1)])


def rotation(angle: float) -> Points:
    """Returns the matrix that rotates row vectors by `angle` radians."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def outlines(
    rng: np.random.Generator,
    centres: Points,
    radius: float,
    *,
    stretch: float = 1.0,
    roughness: float = 0.06,
    num_points: int = 20,
) -> Points:
    """Returns the outlines `[N, num_points, 2]` of roundish cells, glands or masses, rotated at random.

    Args:
        rng: Source of their shapes.
        centres: Where they lie, `[N, 2]`.
        radius: Mean radius.
        stretch: Largest ratio of the long to the short axis.
        roughness: Depth of the bumps as a share of the radius.
        num_points: Corners of each polygon.
    """
    num, order = len(centres), np.arange(1, 4)
    angle = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    depth = rng.normal(0, roughness, size=(num, 3, 1)) / order[:, None]
    phase = rng.uniform(0, 2 * np.pi, size=(num, 3, 1))
    bumpy = 1 + (depth * np.cos((order + 1)[:, None] * angle + phase)).sum(axis=1)
    long = np.sqrt(rng.uniform(1, stretch, size=(num, 1)))
    x, y = bumpy * np.cos(angle) * long, bumpy * np.sin(angle) / long
    turn = rng.uniform(0, 2 * np.pi, size=(num, 1))
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=-1)
    return np.asarray(centres[:, None] + radius * turned)


def outline(rng: np.random.Generator, centre: Points, radius: float, **shape: Any) -> Points:
    """Returns the outline `[num_points, 2]` of one roundish object; see `outlines`."""
    return np.asarray(outlines(rng, centre[None], radius, **shape)[0])


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Mixes two colours: `share` 0 is the first, 1 the second.

    >>> blend((0, 0, 0), (200, 100, 50), 0.5)
    (100, 50, 25)
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def jitter_colour(rng: np.random.Generator, colour: Colour, levels: int = 8) -> Colour:
    """Returns a colour near `colour`: lighter or darker by up to `levels`."""
    shift = int(rng.integers(-levels, levels + 1))
    red, green, blue = (min(255, max(0, part + shift)) for part in colour)
    return red, green, blue
