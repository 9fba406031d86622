"""Plots an overview of the atlas."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

from components.data_processing.teaching_atlas.micrographs import render
from components.data_processing.teaching_atlas.other_images import OTHER_DIAGNOSES
from components.data_processing.teaching_atlas.specimens import DIAGNOSES, caption, draw_specimen

_NUM_EXAMPLES = 4
_SIDE_PX, _COLUMN_PX, _ROW_PX = 224, 240, 292
_SEED_BRANCH = 5


def specimens_overview(seed: int) -> Figure:
    """Plots a grid of examples with their captions, one row for each diagnosis.

    All pictures are one mosaic on one pair of axes: fifty pairs take seconds to draw.
    """
    diagnoses = (*DIAGNOSES, *OTHER_DIAGNOSES)
    height, width = len(diagnoses) * _ROW_PX, _NUM_EXAMPLES * _COLUMN_PX
    mosaic = np.full((height, width, 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(width / 120, height / 120))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for row, diagnosis in enumerate(diagnoses):
        for column in range(_NUM_EXAMPLES):
            rng = np.random.default_rng([seed, _SEED_BRANCH, row, column])
            specimen = draw_specimen(rng, diagnosis)
            words = caption(specimen, rng)
            left, bottom = column * _COLUMN_PX, (row + 1) * _ROW_PX
            picture = render(specimen, rng, (_SIDE_PX, _SIDE_PX))
            mosaic[bottom - _SIDE_PX : bottom, left : left + _SIDE_PX] = np.asarray(picture)
            axes.text(left, bottom - _SIDE_PX - 6, textwrap.fill(words, 44), fontsize=5.5, va="bottom")
    axes.imshow(mosaic)
    return figure
