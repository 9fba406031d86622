"""Draws images of other kinds that textbooks show beside the five subfields; they stand in books only."""

from __future__ import annotations

import numpy as np
from PIL import Image

from components.data_processing.teaching_atlas.canvas import Canvas, jitter_colour, outline, outlines, scatter
from components.data_processing.teaching_atlas.specimens import Diagnosis, Phrase, Specimen

OTHER_DIAGNOSES: tuple[Diagnosis, ...] = (
    Diagnosis(
        "oncocytoma",
        Phrase("oncocytoma", "嗜酸细胞腺瘤"),
        "electron microscopy",
        Phrase("electron micrograph", "电镜"),
        {
            "number": {
                "few": Phrase("few mitochondria", "线粒体少"),
                "many": Phrase("many mitochondria", "线粒体多"),
            }
        },
    ),
    Diagnosis(
        "membranous_nephropathy",
        Phrase("membranous nephropathy", "膜性肾病"),
        "immunofluorescence",
        Phrase("immunofluorescence", "免疫荧光"),
        {
            "intensity": {
                "weak": Phrase("weak green granules along the loops", "沿血管袢弱绿色颗粒"),
                "strong": Phrase("strong green granules along the loops", "沿血管袢强绿色颗粒"),
            }
        },
    ),
    Diagnosis(
        "bone_cyst",
        Phrase("bone cyst", "骨囊肿"),
        "radiology",
        Phrase("radiograph", "X线片"),
        {
            "position": {
                "upper": Phrase("lucent lesion of the upper shaft", "骨干上部透亮区"),
                "lower": Phrase("lucent lesion of the lower shaft", "骨干下部透亮区"),
            }
        },
    ),
)


def oncocytoma(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    """Draws an electron micrograph: mitochondria with cristae beside a nucleus."""
    canvas = Canvas(size_px, (176, 176, 176))
    canvas.discs(scatter(rng, canvas, 4, jitter=0.5), 0.6, (140, 140, 140))
    pitch = {"few": 34, "many": 16}[specimen.findings["number"]]
    centres = scatter(rng, canvas, pitch, jitter=0.2)
    for edge in outlines(rng, centres, 6.5, stretch=2.2, num_points=24):
        canvas.blob(edge, jitter_colour(rng, (116, 116, 116), 12), (48, 48, 48), 0.8)
        for start, end in zip(edge[2:10:2], edge[22:14:-2], strict=True):
            canvas.capsule(start * 0.85 + end * 0.15, start * 0.3 + end * 0.7, 0.35, (62, 62, 62))
    corner = np.array([rng.choice([0.0, canvas.width]), canvas.height * rng.uniform(0.2, 0.8)])
    canvas.blob(outline(rng, corner, 26, num_points=40), (150, 150, 150), (40, 40, 40), 1.2)
    canvas.discs(corner + rng.normal(0, 9, size=(40, 2)), 1.8, (92, 92, 92))
    return canvas.photograph(rng, noise=9, texture=8).convert("L").convert("RGB")


def membranous_nephropathy(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    """Draws a glomerulus by immunofluorescence: granules along capillary loops in a dark field."""
    canvas = Canvas(size_px, (4, 10, 6))
    level = {"weak": 105, "strong": 245}[specimen.findings["intensity"]]
    middle = np.array([canvas.width / 2, canvas.height / 2])
    centres = scatter(rng, canvas, 14, jitter=0.2)
    centres = centres[np.hypot(*(centres - middle).T) < 34]
    for edge in outlines(rng, centres, 7, stretch=1.5, num_points=22):
        canvas.discs(edge + rng.normal(0, 0.4, size=edge.shape), 1.0, (level // 6, level, level // 3))
    return canvas.photograph(rng, noise=5, texture=3)


def bone_cyst(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    """Draws a radiograph of a long bone with one lucent lesion in its shaft."""
    canvas = Canvas(size_px, (26, 26, 28))
    x, lean = canvas.width * rng.uniform(0.42, 0.58), rng.uniform(-5, 5)
    top, bottom = np.array([x - lean, -12.0]), np.array([x + lean, canvas.height + 12])
    canvas.capsule(top, bottom, 27, (66, 66, 68))
    canvas.capsule(top, bottom, 13, (222, 222, 218))
    canvas.capsule(top, bottom, 8.5, (168, 168, 166))
    share = {"upper": 0.3, "lower": 0.7}[specimen.findings["position"]]
    lesion = top * (1 - share) + bottom * share
    canvas.blob(outline(rng, lesion, 10.5, stretch=1.2, num_points=30), (92, 92, 94), (214, 214, 212), 1.0)
    return canvas.photograph(rng, noise=7, texture=5).convert("L").convert("RGB")
