"""Draws specimens: every finding that a caption may name is in the pixels.

Light, focus, position, turn and noise differ from picture to picture and are named by no caption.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from components.data_processing.teaching_atlas.canvas import (
    Canvas,
    Colour,
    Points,
    blend,
    jitter_colour,
    outline,
    outlines,
    rotation,
    scatter,
)
from components.data_processing.teaching_atlas.other_images import (
    bone_cyst,
    membranous_nephropathy,
    oncocytoma,
)
from components.data_processing.teaching_atlas.specimens import Specimen

Scene = Callable[[Specimen, np.random.Generator, tuple[int, int]], Image.Image]

WHITE: Colour = (250, 248, 250)
HAEMATOXYLIN: Colour = (78, 40, 128)
EOSIN: Colour = (226, 110, 165)
BLOOD: Colour = (178, 20, 30)
DAB: Colour = (116, 62, 22)
COUNTERSTAIN: Colour = (70, 96, 160)


def render(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    """Draws a specimen as an RGB image of `size_px` (width, height); the same `rng` state gives the same pixels."""
    return _SCENES[specimen.diagnosis.id](specimen, rng, size_px)


def _landmark_centre(specimen: Specimen, rng: np.random.Generator, canvas: Canvas) -> Points | None:
    """Returns the place of the specimen's landmark, near the middle of its quarter of the field."""
    where = specimen.findings["landmark"]
    if where == "none":
        return None
    row, column = where.split()
    x = 0.24 if column == "left" else 0.76
    y = 0.24 if row == "upper" else 0.76
    return np.array([canvas.width * x, canvas.height * y]) + rng.uniform(-4, 4, size=2)


def _haemorrhage(canvas: Canvas, rng: np.random.Generator, centre: Points) -> None:
    canvas.blob(outline(rng, centre, 15, roughness=0.12), blend(BLOOD, EOSIN, 0.15))
    canvas.discs(centre + rng.normal(0, 6, size=(40, 2)), 1.6, BLOOD)


def _stain_strength(specimen: Specimen) -> float:
    return {"pale": 0.45, "deep": 1.0}[specimen.findings["stain"]]


def _tubular_adenoma(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    strength = _stain_strength(specimen)
    nuclei, cytoplasm = blend(WHITE, HAEMATOXYLIN, strength), blend(WHITE, (176, 104, 178), strength)
    canvas = Canvas(size_px, blend(WHITE, EOSIN, 0.75 * strength))
    canvas.discs(scatter(rng, canvas, 6, jitter=0.5), 0.7, nuclei)
    radius = {"small": 7.5, "large": 13.5}[specimen.findings["size"]]
    pitch = radius * {"wide": 3.5, "even": 2.75, "close": 2.15}[specimen.findings["spacing"]]
    centres = scatter(rng, canvas, pitch, jitter=0.08)
    edges = outlines(rng, centres, radius, stretch=1.25, num_points=round(2.6 * radius))
    for centre, edge in zip(centres, edges, strict=True):
        canvas.blob(edge, cytoplasm)
        canvas.discs(centre + (edge - centre) * 0.86, 1.5, nuclei)
        canvas.blob(centre + (edge - centre) * 0.45, WHITE)
    centre = _landmark_centre(specimen, rng, canvas)
    if centre is not None:
        _haemorrhage(canvas, rng, centre)
    return canvas.photograph(rng, noise=4, texture=5)


def _villous_adenoma(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    strength = _stain_strength(specimen)
    nuclei, cytoplasm = blend(WHITE, HAEMATOXYLIN, strength), blend(WHITE, (176, 104, 178), strength)
    core = blend(WHITE, EOSIN, 0.75 * strength)
    canvas = Canvas(size_px, WHITE)
    radius = {"small": 5.0, "large": 9.0}[specimen.findings["size"]]
    pitch = 2 * radius * {"wide": 1.75, "even": 1.4, "close": 1.12}[specimen.findings["spacing"]]
    middle = np.array([canvas.width, canvas.height]) / 2
    turn = rotation(rng.uniform(0, 2 * np.pi))
    reach = float(np.hypot(canvas.width, canvas.height)) / 2
    base = reach * rng.uniform(0.45, 0.8)
    for y in np.arange(-reach + rng.uniform(0, pitch), reach, pitch):
        tip = -reach * rng.uniform(0.3, 1.0)
        sway = rng.normal(0, pitch * 0.06, size=2)
        start, end = middle + np.array([[tip, y + sway[0]], [base + 4, y + sway[1]]]) @ turn
        canvas.capsule(start, end, radius, cytoplasm)
        canvas.capsule(start, end, radius * 0.42, core)
        for side in (-0.72, 0.72):
            along = np.arange(tip, base, 2.6)
            rows = np.stack([along, np.full_like(along, y + side * radius)], axis=-1)
            canvas.discs(middle + rows @ turn, 1.4, nuclei)
    corners = np.array([[base, -2 * reach], [base, 2 * reach], [3 * reach, 2 * reach], [3 * reach, -2 * reach]])
    canvas.blob(middle + corners @ turn, core)
    centre = _landmark_centre(specimen, rng, canvas)
    if centre is not None:
        _haemorrhage(canvas, rng, centre)
    return canvas.photograph(rng, noise=4, texture=5)


_SHADOW_OFFSET = np.array([1.5, 2.5])
_BACKDROPS: dict[str, Colour] = {
    "blue": (52, 92, 168),
    "green": (58, 128, 92),
    "grey": (138, 142, 146),
    "white": (234, 232, 226),
}


def _gross_table(specimen: Specimen, rng: np.random.Generator, canvas: Canvas) -> Points:
    """Draws ruler and blood spot; returns the place of the specimen."""
    middle = np.array([canvas.width / 2, canvas.height / 2]) + rng.uniform(-3, 3, size=2)
    if specimen.findings["ruler"] == "below":
        top = canvas.height - 13
        canvas.rectangle(0, top, canvas.width, canvas.height, (246, 240, 200))
        for number, x in enumerate(np.arange(rng.uniform(0, 4), canvas.width, 4.0)):
            canvas.rectangle(x, top, x + 0.9, top + (7 if number % 5 == 0 else 4), (30, 30, 30))
        middle[1] -= 5
    centre = _landmark_centre(specimen, rng, canvas)
    if centre is not None:
        centre += np.sign(centre - (canvas.width / 2, canvas.height / 2)) * (9, 7)
        if centre[1] > canvas.height / 2 and specimen.findings["ruler"] == "below":
            centre[1] -= 12
        canvas.blob(outline(rng, centre, 9, roughness=0.12), BLOOD)
        canvas.discs(centre + rng.normal(0, 8, size=(5, 2)), 1.2, BLOOD)
    return middle


def _lipoma(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    canvas = Canvas(size_px, _BACKDROPS[specimen.findings["backdrop"]])
    middle = _gross_table(specimen, rng, canvas)
    radius = {"small": 16, "large": 29}[specimen.findings["size"]]
    yellow = jitter_colour(rng, (238, 192, 62), 14)
    edge = outline(rng, middle, radius, stretch=1.3, roughness=0.12, num_points=11)
    canvas.discs(edge + _SHADOW_OFFSET, radius * 0.33, blend(_BACKDROPS[specimen.findings["backdrop"]], (0, 0, 0), 0.5))
    canvas.blob(edge, blend(yellow, (150, 96, 10), 0.35))
    lobes = np.concatenate([edge, middle + (edge - middle) * 0.62, middle + (edge[::3] - middle) * 0.2])
    for x, y in rng.permutation(lobes + rng.normal(0, 0.07 * radius, size=lobes.shape)):
        lobe = radius * rng.uniform(0.2, 0.36)
        canvas.disc(x, y, lobe, blend(yellow, (150, 96, 10), 0.4))
        canvas.disc(x - 0.02 * radius, y - 0.03 * radius, 0.86 * lobe, jitter_colour(rng, yellow, 10))
        canvas.disc(x - 0.25 * lobe, y - 0.3 * lobe, 0.25 * lobe, blend(yellow, WHITE, 0.45))
    return canvas.photograph(rng, noise=3, texture=5)


def _melanoma(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    canvas = Canvas(size_px, _BACKDROPS[specimen.findings["backdrop"]])
    middle = _gross_table(specimen, rng, canvas)
    skin = jitter_colour(rng, (226, 172, 142), 12)
    flap = outline(rng, middle, 31, stretch=1.2, roughness=0.03, num_points=36)
    canvas.blob(flap + _SHADOW_OFFSET, blend(_BACKDROPS[specimen.findings["backdrop"]], (0, 0, 0), 0.5))
    canvas.blob(flap, skin, blend(skin, (120, 50, 40), 0.5), 1.5)
    creases = scatter(rng, canvas, 7)
    near = np.hypot(*(creases - middle).T) < 25
    canvas.discs(creases[near], 0.8, blend(skin, (150, 90, 70), 0.4))
    radius = {"small": 11, "large": 21}[specimen.findings["size"]]
    lesion = middle + rng.uniform(-2, 2, size=2)
    canvas.blob(outline(rng, lesion, radius, roughness=0.16, num_points=28), (84, 46, 30))
    canvas.blob(outline(rng, lesion, radius * 0.8, roughness=0.2, num_points=28), (30, 20, 22))
    canvas.discs(lesion + rng.normal(0, radius * 0.35, size=(5, 2)), 1.4, (66, 52, 60))
    return canvas.photograph(rng, noise=3, texture=5)


def _lymphoma(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    canvas = Canvas(size_px, (240, 238, 240))
    strength = {"pale": 0.5, "deep": 1.1}[specimen.findings["stain"]]
    nucleus = blend(WHITE, COUNTERSTAIN, strength)
    positive = specimen.diagnosis.id == "b_cell_lymphoma"
    radius = {"small": 4.0, "large": 7.5}[specimen.findings["size"]]
    pitch = radius * {"wide": 3.9, "even": 2.9, "close": 2.15}[specimen.findings["spacing"]]
    vessel = _landmark_centre(specimen, rng, canvas)
    centres = scatter(rng, canvas, pitch, jitter=0.12)
    if vessel is not None:
        centres = centres[np.hypot(*(centres - vessel).T) > 17]
    for centre, edge in zip(centres, outlines(rng, centres, radius, num_points=12), strict=True):
        if positive:
            canvas.blob(edge, (232, 214, 196), jitter_colour(rng, DAB, 14), 0.42 * radius)
        else:
            canvas.blob(edge, (226, 228, 238))
        canvas.blob(centre + (edge - centre) * 0.62, jitter_colour(rng, nucleus, 10))
    if vessel is not None:
        edge = outline(rng, vessel, 14, roughness=0.04, num_points=24)
        canvas.blob(edge, (252, 252, 252), blend(WHITE, COUNTERSTAIN, 0.5), 1.5)
    return canvas.photograph(rng, noise=4, texture=4)


def _smear(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    canvas = Canvas(size_px, (238, 240, 238))
    if specimen.findings["background"] == "bloody":
        for x, y in scatter(rng, canvas, 9, jitter=0.45):
            canvas.disc(x, y, 2.6, (214, 92, 84))
            canvas.disc(x, y, 1.0, (236, 160, 150))
    high_grade = specimen.diagnosis.id == "hsil"
    cytoplasm: Colour = {"pink": (238, 140, 168), "blue": (112, 190, 206)}[specimen.findings["colour"]]
    radius = 9.0 if high_grade else 17.5
    pitch = {"few": 42, "many": 25}[specimen.findings["number"]] * (0.85 if high_grade else 1.35)
    centres = scatter(rng, canvas, pitch, jitter=0.15, margin=0.1)
    edges = outlines(rng, centres, radius, stretch=1.2, num_points=12 if high_grade else 7)
    for centre, edge in zip(centres, edges, strict=True):
        fill = jitter_colour(rng, cytoplasm, 10)
        canvas.blob(edge, fill, blend(fill, (60, 60, 90), 0.35), 0.7)
        if high_grade:
            nucleus = outline(rng, centre, radius * 0.76, roughness=0.1, num_points=14)
            canvas.blob(nucleus, jitter_colour(rng, (58, 34, 92), 10))
            canvas.discs(centre + rng.normal(0, 2.5, size=(5, 2)), 0.9, (26, 12, 48))
        else:
            canvas.disc(centre[0], centre[1], 2.4, (66, 44, 104))
    centre = _landmark_centre(specimen, rng, canvas)
    if centre is not None:
        for cell in centre + scatter_around(rng, 12, 11):
            canvas.disc(cell[0], cell[1], 3.6, (226, 218, 232))
            canvas.discs(cell + rng.normal(0, 1.3, size=(3, 2)), 1.5, (44, 40, 130))
    return canvas.photograph(rng, noise=4, texture=4)


def scatter_around(rng: np.random.Generator, num_points: int, reach: float) -> Points:
    """Returns offsets `[num_points, 2]` spread evenly over a disc of radius `reach` (a sunflower, rotated)."""
    step = np.arange(num_points)
    radius = reach * np.sqrt((step + 0.5) / num_points)
    angle = step * np.pi * (3 - np.sqrt(5)) + rng.uniform(0, 2 * np.pi)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _hybridisation(specimen: Specimen, rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    canvas = Canvas(size_px, (8, 8, 14))
    haze = _landmark_centre(specimen, rng, canvas)
    if haze is not None:
        for ring in range(12):
            canvas.disc(haze[0], haze[1], 19 - 1.3 * ring, (8, 12 + 9 * ring, 22))
    dapi: Colour = {"dim": (26, 32, 104), "bright": (62, 84, 228)}[specimen.findings["stain"]]
    amplified = specimen.diagnosis.id == "her2_amplified"
    radius = {"small": 10.5, "large": 16.0}[specimen.findings["size"]]
    num_nuclei = {"two": 2, "three": 3, "four": 4}[specimen.findings["number"]]
    middle = np.array([canvas.width / 2, canvas.height / 2])
    first = rng.uniform(0, 2 * np.pi)
    for number in range(num_nuclei):
        angle = first + 2 * np.pi * number / num_nuclei + rng.normal(0, 0.06)
        distance = {2: 25, 3: 27, 4: 29}[num_nuclei] * rng.uniform(0.95, 1.05)
        centre = middle + distance * np.array([np.cos(angle), np.sin(angle)])
        edge = outline(rng, centre, radius, stretch=1.12, roughness=0.03, num_points=28)
        canvas.blob(edge, dapi, blend(dapi, (0, 0, 0), 0.35), 1.2)
        places = centre + scatter_around(rng, 14 if amplified else 4, 0.72 * radius)
        canvas.discs(places[: 12 if amplified else 2], 1.9, (255, 50, 40))
        canvas.discs(places[-2:], 1.9, (70, 255, 90))
    return canvas.photograph(rng, noise=3, texture=2)


_SCENES: dict[str, Scene] = {
    "tubular_adenoma": _tubular_adenoma,
    "villous_adenoma": _villous_adenoma,
    "lipoma": _lipoma,
    "melanoma": _melanoma,
    "b_cell_lymphoma": _lymphoma,
    "t_cell_lymphoma": _lymphoma,
    "hsil": _smear,
    "normal_squamous_epithelium": _smear,
    "her2_amplified": _hybridisation,
    "her2_not_amplified": _hybridisation,
    "oncocytoma": oncocytoma,
    "membranous_nephropathy": membranous_nephropathy,
    "bone_cyst": bone_cyst,
}
