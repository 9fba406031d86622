"""Plots the curves that a stage reported while it trained."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

# These differ from run to run, or begin anew after a restart; a stage's plots may not.
_NOT_PLOTTED = frozenset(
    {"tokens_per_s", "samples_per_s", "memory_gib", "checkpoint_share", "padding_share", "data_wait_share", "mfu"}
)


def read_series(report: Path) -> dict[str, dict[int, float]]:
    """Reads a reporter's curves: values by step, by name; of a step run twice, the later value."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for line in (report / "series.jsonl").read_text().splitlines():
        point = json.loads(line)
        for name, value in point["values"].items():
            curves[name][point["step"]] = value
    return {name: dict(sorted(points.items())) for name, points in curves.items()}


def plot_curves(report: Path) -> Figure:
    """Plots each curve over the optimiser steps, in a panel of its own."""
    curves = {name: points for name, points in read_series(report).items() if name not in _NOT_PLOTTED}
    columns = min(3, max(1, len(curves)))
    rows = max(1, -(-len(curves) // columns))
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes in grid:
        axes.axis("off")
    for axes, (name, points) in zip(grid, curves.items(), strict=False):
        axes.axis("on")
        axes.plot(list(points), list(points.values()))
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
    return figure
