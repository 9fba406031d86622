"""Tells photographs of specimens from codes, charts, tables, drawings, logos and ornaments by their pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data_processing.textbook_pairs.figures.panels import xy_cut
from components.data_processing.textbook_pairs.pixels import Mask, Pixels

_MAX_CODE_SATURATION = 60
_MIN_CODE_EXTREME = 0.6
_MIN_CODE_CHANGES = 8

# Sides of the windows in which colour is called flat, and the deviation below which it is.
_FLAT_WINDOW_PX = 9
_FLAT_DEVIATION = 4.5
_MIN_FLAT_GRAPHIC = 0.5
_MIN_FLAT_ORNAMENT = 0.93
# Charts and drawings are paper for the most part; a photograph fills its frame.
_MIN_PHOTOGRAPH_INK = 0.28
_MAX_GRAPHIC_INK = 0.88
# Specimens on a plain cloth are flat, too, but not as flat as the boxes of a diagram.
_MAX_FLAT_PANELS = 0.75
# No photograph is as much of one tone as what was drawn and filled, but for a dark field.
_TONE_WINDOW_PX = 5
_MAX_TONE = 0.65
_MAX_INK_TONES = 0.45
_FEW_INK_TONES = 0.4
_MIN_LOOSE_INK = 0.6
_MIN_TEXTURED = 0.2
_SHARP_DEVIATION = 24.0
_SOFT_DEVIATION = 18.0
_MIN_FLAT_SOFT = 0.3
_ABOVE_NOISE = 2.5
_ORNAMENT_ASPECT = 5.0
_LOGO_SHARE = 0.17
_RULE_SHARE = 0.55
_TABLE_RULE_SHARE = 0.75
_RULE_DARKER = 35
_MIN_TABLE_RULES = 3
_DARK_FIELD = 60


def classify_graphic(pixels: Pixels, ink: Mask, page_width: int) -> str:
    """Classifies a picture as `qr_code`, `decoration`, `logo`, `chart`, `table`, `line_art`, or as a photograph.

    Args:
        pixels: The picture.
        ink: Where it is not paper.
        page_width: Width of the page that it stands on, in pixels.
    """
    if is_barcode(pixels):
        return "qr_code"
    height, width = ink.shape
    small = max(width, height) < _LOGO_SHARE * page_width
    filled, flat = float(ink.mean()), flat_share(pixels, ink)
    if not small and filled >= _MIN_PHOTOGRAPH_INK and flat > _MIN_FLAT_SOFT and _is_soft(pixels):
        return ""
    # A dark field with few signals is flat too, but no ornament is that dark.
    bright = float(np.median(pixels.max(axis=2))) > _DARK_FIELD
    ornament = bright and flat > _MIN_FLAT_ORNAMENT
    filled_in = bright and _is_filled_in(pixels)
    if filled >= _MAX_GRAPHIC_INK and (ornament or filled_in):
        oblong = ornament or max(width, height) > _ORNAMENT_ASPECT * min(width, height)
        return "logo" if small else "decoration" if oblong else "line_art"
    panels = flat <= _MAX_FLAT_PANELS and filled_between_gutters(ink) >= _MAX_GRAPHIC_INK
    like_photograph = flat <= _MIN_FLAT_GRAPHIC or filled >= _MAX_GRAPHIC_INK or panels
    if filled < _MAX_GRAPHIC_INK:
        tones = ink_tones(pixels, ink)
        loose, few_tones = filled < _MIN_LOOSE_INK, tones >= _FEW_INK_TONES
        sharp = _sharpness(_local_deviation(pixels)) > _SHARP_DEVIATION
        # Boxes of one colour each lie beside each other as panels do, but their outlines and words are sharp.
        filled_in = filled_in or (sharp and few_tones) or (not panels and ((sharp and loose) or tones > _MAX_INK_TONES))
        like_photograph = like_photograph or not (loose or few_tones)
    if filled >= _MIN_PHOTOGRAPH_INK and like_photograph and not filled_in:
        return ""
    return _classify_drawing(pixels, small=small and flat > _MIN_FLAT_GRAPHIC)


def _classify_drawing(pixels: Pixels, *, small: bool) -> str:
    """Classifies a picture that is no photograph."""
    if has_axes(pixels) or count_rules(pixels) >= _MIN_TABLE_RULES:
        return "chart" if has_axes(pixels) else "table"
    height, width = pixels.shape[:2]
    if max(width, height) > _ORNAMENT_ASPECT * min(width, height):
        return "decoration"
    return "logo" if small else "line_art"


def filled_between_gutters(ink: Mask) -> float:
    """Returns the fraction of ink in the parts of a picture that bands of paper divide: panels fill them."""
    parts = [ink[y0:y1, x0:x1] for x0, y0, x1, y1 in (part.pixel_bounds() for part in xy_cut(ink))]
    return float(np.concatenate([part.ravel() for part in parts]).mean()) if parts else 0.0


def _is_filled_in(pixels: Pixels) -> bool:
    """Checks whether most of a picture is of one tone, and the rest is little or as sharp as letters and lines."""
    if tone_share(pixels) <= _MAX_TONE:
        return False
    deviation = _local_deviation(pixels)
    textured = float((deviation >= _textured_from(deviation)).mean())
    return textured < _MIN_TEXTURED or _sharpness(deviation) > _SHARP_DEVIATION


def _is_soft(pixels: Pixels) -> bool:
    """Checks whether a picture has neither sharp edges nor one main tone, as few cells on a slide."""
    return tone_share(pixels) <= _MAX_TONE and _sharpness(_local_deviation(pixels)) < _SOFT_DEVIATION


def _sharpness(deviation: NDArray[np.float32]) -> float:
    """Returns how much grey levels differ where a picture is not flat: letters and lines are sharper than tissue."""
    textured = deviation[deviation >= _textured_from(deviation)]
    return float(np.median(textured)) if textured.size else 0.0


def _textured_from(deviation: NDArray[np.float32]) -> float:
    """Returns the deviation from which a pixel counts as textured; flat areas deviate by the scanner's noise."""
    return max(_FLAT_DEVIATION, _ABOVE_NOISE * float(np.percentile(deviation, 20)))


def tone_share(pixels: Pixels) -> float:
    """Returns the fraction of pixels with the most frequent grey level ± 2: large in what was filled in."""
    near = _tones(pixels, np.ones(pixels.shape[:2], dtype=bool))
    return float(near.max())


def ink_tones(pixels: Pixels, ink: Mask) -> float:
    """Returns the fraction of a picture's ink with one of its two most frequent grey levels, ± 2 each."""
    if not ink.any():
        return 0.0
    near = _tones(pixels, ink)
    first = int(near.argmax())
    others = near.copy()
    others[max(first - _TONE_WINDOW_PX + 1, 0) : first + _TONE_WINDOW_PX] = 0.0
    return float(near[first] + others.max())


def _tones(pixels: Pixels, mask: Mask) -> NDArray[np.float64]:
    """Returns for each grey level the fraction of the mask's pixels that have it, ± 2, `[256]`."""
    grey = cv2.blur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (_TONE_WINDOW_PX, _TONE_WINDOW_PX))
    counts = np.bincount(grey[mask], minlength=256)
    return np.convolve(counts, np.ones(_TONE_WINDOW_PX), mode="same") / max(int(mask.sum()), 1)


def flat_share(pixels: Pixels, ink: Mask) -> float:
    """Returns the fraction of ink whose surroundings hardly vary: large in graphics, small in photographs."""
    inner = cv2.erode(ink.astype(np.uint8), np.ones((_FLAT_WINDOW_PX, _FLAT_WINDOW_PX), np.uint8)) == 1
    return float((_local_deviation(pixels)[inner] < _FLAT_DEVIATION).mean()) if inner.any() else 0.0


def _local_deviation(pixels: Pixels) -> NDArray[np.float32]:
    """Returns the local standard deviation of the grey levels, `[H, W]`."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Noise of a scanner has no features wider than a pixel or two.
    smooth = cv2.blur(grey, (3, 3))
    window = (_FLAT_WINDOW_PX, _FLAT_WINDOW_PX)
    mean = cv2.blur(smooth, window)
    return np.asarray(np.sqrt(np.maximum(cv2.blur(smooth * smooth, window) - mean * mean, 0)))


def has_axes(pixels: Pixels) -> bool:
    """Checks whether a long vertical rule at the left meets a long horizontal one at the bottom."""
    level, upright = _rules(pixels, _RULE_SHARE)
    height, width = level.shape
    return bool(level[height // 2 :].any() and upright[:, : width // 2].any())


def count_rules(pixels: Pixels) -> int:
    """Counts the horizontal rules that run across a picture."""
    level, _ = _rules(pixels, _TABLE_RULE_SHARE)
    rows = level.any(axis=1).astype(np.int8)
    return int((np.diff(rows, prepend=0) == 1).sum())


def is_barcode(pixels: Pixels) -> bool:
    """Checks whether a picture is a QR code or bar code: colourless, black or white, and often changing."""
    saturation = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    if float(np.percentile(saturation, 90)) > _MAX_CODE_SATURATION:
        return False
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    _, dark = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    if not 0.2 < float(dark.mean()) < 0.7 or _changes_per_100_px(dark) < _MIN_CODE_CHANGES:
        return False
    middle = (grey[dark == 1].mean() + grey[dark == 0].mean()) / 2
    return float((np.abs(grey - middle) > 50).mean()) > _MIN_CODE_EXTREME


def _rules(pixels: Pixels, share: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Finds horizontal and vertical rules of at least a fraction of the width and height."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    dark = (grey.astype(np.int16) < np.median(grey).astype(np.int16) - _RULE_DARKER).astype(np.uint8)
    dark = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    height, width = dark.shape
    level = cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((1, max(int(share * width), 3)), np.uint8))
    upright = cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((max(int(share * height), 3), 1), np.uint8))
    return level == 1, upright == 1


def _changes_per_100_px(dark: NDArray[np.uint8]) -> float:
    """Returns how often a line across the picture passes from dark to light or back."""
    across = np.abs(np.diff(dark.astype(np.int8), axis=1)).mean()
    down = np.abs(np.diff(dark.astype(np.int8), axis=0)).mean()
    return 100.0 * float(min(across, down))
