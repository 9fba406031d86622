"""Textbook pages drawn for these tests."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PAPER = (252, 251, 248)
ENGLISH = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf"
FILLER = "The lesion is well circumscribed and grows slowly. Mitoses are rare and necrosis is absent. "
STAINS = [(196, 120, 170), (200, 160, 110), (120, 140, 200), (60, 60, 110)]


def chinese_font() -> Path:
    spec = importlib.util.find_spec("zhplot")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "fonts" / "NotoSansSC-Regular.ttf"


def tissue(size: tuple[int, int], seed: int) -> Image.Image:
    """A picture that fills its frame: blotches of one stain with dark dots."""
    rng = np.random.default_rng(seed)
    width, height = size
    blotches = Image.fromarray(rng.integers(0, 255, (height // 12 + 1, width // 12 + 1), dtype=np.uint8))
    shade = np.asarray(blotches.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)[..., None] / 255
    stained = np.array(STAINS[seed % len(STAINS)]) * (0.75 + 0.4 * shade)
    image = Image.fromarray(stained.clip(0, 235).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for x, y in rng.uniform((0, 0), size, (width * height // 500, 2)).tolist():
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(90, 40, 110))
    return image


class Sheet:
    """An A4 page of 1680 x 2376 px, half of which per side is the size at which boxes are given."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (1680, 2376), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: int, y: int, text: str, size: int = 30, columns: int = 80, font: Path = ENGLISH) -> int:
        """Writes wrapped text and returns where the next line would begin."""
        face = ImageFont.truetype(str(font), size)
        for line in textwrap.wrap(text, columns, break_on_hyphens=False):
            self.draw.text((x, y), line, font=face, fill=(25, 25, 25))
            y += round(1.45 * size)
        return y

    def picture(self, x: int, y: int, picture: Image.Image, label: str = "", colour: str = "black") -> None:
        """Pastes a picture with a label in its lower left corner."""
        self.image.paste(picture, (x, y))
        if label:
            face = ImageFont.truetype(str(ENGLISH), 34)
            self.draw.text((x + 14, y + picture.height - 52), label, font=face, fill=colour)

    def scanned(self, degrees: float) -> Image.Image:
        """The page as a scanner gives it: turned, soft and noisy."""
        turned = self.image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=PAPER)
        soft = np.asarray(turned.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float64)
        noise = np.random.default_rng(0).normal(0, 5, soft.shape)
        return Image.fromarray((soft + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def english_page() -> Image.Image:
    """A skewed scan: figure 3.2 of four panels in two rows, white labels, one reference above and one below."""
    sheet = Sheet()
    y = sheet.text(160, 180, FILLER + "Narrow ducts and wide ducts differ (Fig. 3.2A and B). " + FILLER) + 40
    for number in range(4):
        x, down = 180 + number % 2 * 680, number // 2 * 460
        sheet.picture(x, y + down, tissue((660, 440), number), "ABCD"[number], "white")
    caption = "Fig. 3.2 Fibroadenoma of the breast. (A) Narrow ducts. (B) Wide ducts. (C) Myxoid stroma. (D) FISH."
    y = sheet.text(180, y + 915, caption, size=24, columns=100)
    sheet.text(160, y + 60, FILLER + "As Figs 3.1 and 3.2D show, the signal is bright. " + FILLER)
    return sheet.scanned(1.4)


@pytest.fixture(scope="session")
def chinese_page() -> Image.Image:
    """A scan: figure 4-2 of three panels that touch; a line of the body text refers to two of them."""
    sheet, font = Sheet(), chinese_font()
    filler = "本病多见于中年女性，肿物界限清楚，生长缓慢，切面灰白色，质地较韧。"
    y = sheet.text(160, 180, filler * 2 + "镜下腺管扩张（图4-2A、B）。" + filler, columns=44, font=font) + 30
    for number in range(3):
        sheet.picture(180 + 440 * number, y, tissue((440, 400), 20 + number), "ABC"[number])
    y = sheet.text(560, y + 412, "图 4-2  乳腺病变", size=26, font=font)
    sheet.text(430, y, "A. 腺管扩张；B. 上皮增生；C. 间质疏松。", size=26, font=font)
    return sheet.scanned(-0.8)


@pytest.fixture(scope="session")
def plain_page() -> Image.Image:
    """A page of text that refers to figure 4-2 of the page before it."""
    sheet = Sheet()
    text = "间质疏松者预后良好（图4-2C）。上皮增生者应随访，每年复查一次。" * 4
    sheet.text(160, 180, text, columns=44, font=chinese_font())
    return sheet.scanned(0.0)
