"""Draws figures of one or several panels: their grid, separators and printed labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from bench.books.captions import CaptionPlan
from bench.books.fonts import load_font
from bench.books.specimens import KINDS, specimen
from bench.books.words import pick

Box = tuple[float, float, float, float]

SEPARATORS = {"thin": 7, "thick": 30, "none": 0, "black line": 4, "framed": 14}
"""Pixels between two panels, by the word for it."""
CORNERS = ("upper left", "upper right", "lower left", "lower right")
MARKS = ("plain", "halo", "black on white", "white on black")
_GRIDS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((1,),),
    2: ((2,), (2,), (1, 1)),
    3: ((3,), (1, 2), (2, 1)),
    4: ((2, 2), (2, 2), (4,)),
    5: ((3, 2),),
    6: ((3, 3), (2, 2, 2)),
}


@dataclass(frozen=True)
class FigurePlan:
    """Figure to be drawn.

    Attributes:
        number: Its number as mentions spell it; empty for a figure without one.
        rows: Number of panels in each row.
        caption: Its caption with its truth.
        labels: The label printed on each panel in reading order, empty for none.
        separator: A word of `SEPARATORS`.
        mark: A word of `MARKS`, how labels are printed.
        corner: Where labels stand: a word of `CORNERS`, or `below` for under the panel.
        place: Where the caption stands: below, above, beside or next page.
        kind: Kind of the panels' content.
        aspect: Height of a panel of a full row divided by its width.
        seed: Seed of the pixels.
    """

    number: str
    rows: tuple[int, ...]
    caption: CaptionPlan
    labels: tuple[str, ...]
    separator: str
    mark: str
    corner: str
    place: str
    kind: str
    aspect: float
    seed: int

    @property
    def variations(self) -> dict[str, str]:
        """Returns the figure's special features, for the tables of the benchmark."""
        labelled = any(self.labels)
        return {
            "panels": str(sum(self.rows)),
            "grammar": self.caption.grammar,
            "numbered": "yes" if self.caption.head else "no",
            "caption": self.place,
            "separator": self.separator if sum(self.rows) > 1 else "-",
            "labels": self.labels[0] if labelled else "none",
            "mark": self.mark if labelled else "-",
            "corner": self.corner if labelled else "-",
            "picture": self.kind,
        }


def choose_rows(rng: np.random.Generator, num_panels: int) -> tuple[int, ...]:
    """Chooses the number of panels in each row of a figure."""
    return pick(rng, _GRIDS[num_panels])


def draw_figure(plan: FigurePlan, width_px: int) -> tuple[Image.Image, list[Box]]:
    """Draws the figure at a width; returns it with the box of every panel in reading order."""
    rng = np.random.default_rng(plan.seed)
    gap = SEPARATORS[plan.separator] if sum(plan.rows) > 1 else 0
    label_px = int(rng.integers(26, 44))
    below = round(1.4 * label_px) if plan.corner == "below" and any(plan.labels) else 0
    most = max(plan.rows)
    boxes: list[Box] = []
    y = 0
    for columns in plan.rows:
        height = round(min(plan.aspect * width_px / (columns if rng.random() < 0.5 else most), 0.8 * width_px))
        shares = rng.uniform(0.75, 1.25, columns) if rng.random() < 0.3 else np.ones(columns)
        inner = width_px - gap * (columns - 1)
        edges = np.round(np.cumsum(shares / shares.sum()) * inner).astype(int).tolist()
        for column, (start, stop) in enumerate(zip([0, *edges[:-1]], edges, strict=True)):
            boxes.append((start + column * gap, y, stop + column * gap, y + height))
        y += height + below + gap
    image = Image.new(
        "RGB", (width_px, y - gap), (0, 0, 0) if plan.separator == "black line" and not below else (255, 255, 255)
    )
    draw = ImageDraw.Draw(image)
    for (x0, y0, x1, y1), label in zip(boxes, plan.labels, strict=True):
        exposed = specimen(rng, (int(x1 - x0), int(y1 - y0)), plan.kind).astype(np.float32) * rng.uniform(0.82, 1.0)
        picture = exposed.astype(np.uint8)
        if rng.random() < 0.3:
            cv2.rectangle(picture, (20, int(y1 - y0) - 16), (90, int(y1 - y0) - 11), (20, 20, 20), -1)
        image.paste(Image.fromarray(picture), (int(x0), int(y0)))
        if plan.separator == "framed":
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(20, 20, 20), width=2)
        if label:
            _print_label(draw, image, plan, label, (x0, y0, x1, y1), label_px)
    return image, boxes


def _print_label(
    draw: ImageDraw.ImageDraw, image: Image.Image, plan: FigurePlan, label: str, box: Box, size_px: int
) -> None:
    font = load_font("zh" if label[0] > "\u2000" else "sans bold", size_px)
    left, top, right, bottom = font.getbbox(label)
    width, height = right - left, bottom - top
    x0, y0, x1, y1 = box
    if plan.corner == "below":
        draw.text(((x0 + x1 - width) / 2 - left, y1 + 0.2 * size_px - top), label, (20, 20, 20), font)
        return
    inset = 0 if plan.mark in ("black on white", "white on black") else 14
    pad = 9 if inset == 0 else 0
    x = x0 + inset + pad if "left" in plan.corner else x1 - inset - pad - width
    y = y0 + inset + pad if "upper" in plan.corner else y1 - inset - pad - height
    under = np.asarray(image.crop((int(x), int(y), int(x + width) + 1, int(y + height) + 1)).convert("L"))
    dark = float(under.mean()) < 120
    ink, ground = ((255, 255, 255), (0, 0, 0)) if dark else ((0, 0, 0), (255, 255, 255))
    if pad:
        ink, ground = ((0, 0, 0), (255, 255, 255)) if plan.mark == "black on white" else ((255, 255, 255), (0, 0, 0))
        draw.rectangle((x - pad, y - pad, x + width + pad, y + height + pad), ground)
    stroke = 2 if plan.mark == "halo" else 0
    draw.text((x - left, y - top), label, ink, font, stroke_width=stroke, stroke_fill=ground)


def choose_kind(rng: np.random.Generator) -> str:
    """Chooses the kind of a figure's panels."""
    return pick(rng, KINDS)
