"""Draws pictures that could be figures of a pathology book from noise: no photograph is used."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.books.words import pick

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

_STAINS = ((214, 130, 176), (226, 160, 190), (196, 150, 110), (150, 165, 205), (205, 120, 140), (222, 196, 214))
_NUCLEI = ((88, 48, 120), (70, 60, 130), (110, 62, 40), (60, 70, 140))


def specimen(rng: np.random.Generator, size: Size, kind: str) -> Pixels:
    """Draws a picture `[H, W, 3]` of one of `KINDS`, width and height as given."""
    return _DRAWN[kind](rng, size)


def _noise(rng: np.random.Generator, size: Size, cell: int) -> NDArray[np.float32]:
    """Returns smooth noise in -1..1 whose features are about `cell` pixels wide."""
    width, height = size
    coarse = rng.uniform(-1, 1, (height // cell + 3, width // cell + 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _tinted(base: tuple[int, int, int], *waves: NDArray[np.float32]) -> NDArray[np.float32]:
    shade = np.asarray(sum(waves), dtype=np.float32)
    return np.array(base, dtype=np.float32) * (1 + shade[..., None])


def _finished(rng: np.random.Generator, picture: NDArray[np.float32], grain: float = 5.0) -> Pixels:
    rough = picture + rng.normal(0, grain, (*picture.shape[:2], 1)).astype(np.float32)
    return np.asarray(rough.clip(0, 255).astype(np.uint8))


def _histology(rng: np.random.Generator, size: Size) -> Pixels:
    picture = _tinted(pick(rng, _STAINS), 0.16 * _noise(rng, size, 40), 0.1 * _noise(rng, size, 9))
    colour = pick(rng, _NUCLEI)
    radius = int(rng.integers(3, 9))
    for x, y in rng.uniform((0, 0), size, (size[0] * size[1] // (radius * radius * 40), 2)).astype(int).tolist():
        axes = (radius, max(2, int(radius * rng.uniform(0.5, 1))))
        cv2.ellipse(picture, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    for _ in range(int(rng.integers(0, 7))):
        x, y = rng.uniform((0, 0), size).astype(int).tolist()
        axes = (int(rng.integers(10, 60)), int(rng.integers(10, 40)))
        cv2.ellipse(picture, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, (243, 238, 244), -1)
    return _finished(rng, picture)


def _cytology(rng: np.random.Generator, size: Size) -> Pixels:
    picture = _tinted((236, 228, 224), 0.03 * _noise(rng, size, 60))
    for x, y in rng.uniform((0, 0), size, (int(rng.integers(14, 60)), 2)).astype(int).tolist():
        radius = int(rng.integers(12, 28))
        cv2.circle(picture, (x, y), radius, (176, 190, 206), -1)
        cv2.circle(picture, (x, y), radius // 2, (84, 66, 132), -1)
    return _finished(rng, picture, 3.0)


def _fluorescence(rng: np.random.Generator, size: Size) -> Pixels:
    picture = _tinted((14, 12, 22), 0.4 * _noise(rng, size, 50))
    for x, y in rng.uniform((0, 0), size, (int(rng.integers(25, 80)), 2)).astype(int).tolist():
        cv2.circle(picture, (x, y), int(rng.integers(8, 22)), (36, 44, 150), -1)
        colour = pick(rng, ((230, 60, 60), (80, 230, 90)))
        cv2.circle(picture, (x + 5, y - 3), 3, colour, -1)
    return _finished(rng, cv2.GaussianBlur(picture, (0, 0), 1.5), 4.0)


def _electron(rng: np.random.Generator, size: Size) -> Pixels:
    picture = _tinted((140, 140, 140), 0.35 * _noise(rng, size, 28), 0.25 * _noise(rng, size, 6))
    return _finished(rng, picture, 9.0)


def _gross(rng: np.random.Generator, size: Size) -> Pixels:
    cloth = pick(rng, ((40, 70, 120), (30, 32, 36), (60, 110, 90), (196, 198, 204)))
    return _organ(rng, size, _tinted(cloth, 0.05 * _noise(rng, size, 30)))


def _gross_on_white(rng: np.random.Generator, size: Size) -> Pixels:
    return _organ(rng, size, _tinted((246, 245, 243), 0.01 * _noise(rng, size, 80)))


def _organ(rng: np.random.Generator, size: Size, picture: NDArray[np.float32]) -> Pixels:
    width, height = size
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    reach = 1 + 0.16 * np.sin(3 * angles + rng.uniform(0, 6)) + 0.08 * np.sin(7 * angles + rng.uniform(0, 6))
    outline = np.stack(
        [width * (0.5 + 0.36 * reach * np.cos(angles)), height * (0.5 + 0.34 * reach * np.sin(angles))], 1
    )
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 1)
    colour = pick(rng, ((168, 90, 74), (196, 160, 110), (130, 50, 50), (204, 176, 150)))
    flesh = _tinted(colour, 0.2 * _noise(rng, size, 36), 0.12 * _noise(rng, size, 10))
    return _finished(rng, np.where(mask[..., None] == 1, flesh, picture), 4.0)


_DRAWN: dict[str, Callable[[np.random.Generator, Size], Pixels]] = {
    "histology": _histology,
    "cytology": _cytology,
    "fluorescence": _fluorescence,
    "electron": _electron,
    "gross": _gross,
    "gross on white": _gross_on_white,
}
KINDS = ("histology", "histology", "histology", "cytology", "fluorescence", "electron", "gross", "gross on white")
"""Kinds of pictures, as often as they come."""
