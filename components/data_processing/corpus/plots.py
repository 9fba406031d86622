"""Plots the lengths of captions and the sizes of images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

_NUM_BINS = 50
_LANGUAGES = {"en": "Latin script", "zh": "Chinese", "other": "other scripts"}


def caption_lengths(lengths: Mapping[str, np.ndarray]) -> Figure:
    """Plots a histogram of caption lengths by language, on a logarithmic scale."""
    named = {_LANGUAGES.get(language, language): values for language, values in lengths.items()}
    return _histogram(named, "characters of the caption", "Lengths of captions")


def image_sizes(longer_sides: Mapping[str, np.ndarray]) -> Figure:
    """Plots a histogram of the images' longer sides by source, on a logarithmic scale."""
    return _histogram(longer_sides, "longer side of the image in px", "Sizes of images")


def _histogram(values: Mapping[str, np.ndarray], label: str, title: str) -> Figure:
    figure = Figure(figsize=(8, 3.6))
    axes = figure.subplots()
    every = np.concatenate([np.zeros(0), *values.values()])
    if len(every):
        low, high = float(every.min()), float(every.max())
        edges = np.geomspace(max(low, 1) * 0.95, max(high, 1) * 1.05, _NUM_BINS + 1)
        axes.hist(list(values.values()), bins=list(edges), stacked=True, label=list(values))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="both", labelsize=7)
        axes.legend()
    axes.set_xlabel(label)
    axes.set_ylabel("pairs")
    axes.set_title(title)
    return figure
