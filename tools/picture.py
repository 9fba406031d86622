"""Draws the compiled graph of the smoke recipe as `docs/pipeline.svg`: `python -m tools.picture [--check]`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from grandalf.graphs import Edge, Vertex, graph_core
from grandalf.layouts import SugiyamaLayout
from grandalf.routing import EdgeViewer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from components import catalogue
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.config import StageConfig
from pathoflow.contract.recipe import load_recipe
from pipelines.compile import compile_recipe, graph_of
from tools import drift

PICTURE = REPOSITORY / "docs" / "pipeline.svg"
Point = tuple[float, float]
Graphs = Mapping[str, Sequence[str]]

_WIDTH, _HEIGHT, _LEADING = 104.0, 46.0, 18.0
_COLUMN_GAP, _ROW_GAP = 24.0, 22.0
_INK, _LINE = "#1f2933", "#8795a1"
_COLOURS = {
    "data_processing": "#d9f0ec",
    "training": "#dfe4fb",
    "evaluation": "#fdeccb",
    "deployment": "#f6dbe2",
}


class _Box:
    """A stage's size as the layout wants it, whose rows run downwards where ours run to the right."""

    w, h, xy = _HEIGHT, _WIDTH, (0.0, 0.0)


def layout(graph: Graphs) -> tuple[dict[str, Point], dict[tuple[str, str], list[Point]]]:
    """Places the stages in columns, left to right, with few crossings.

    Returns:
        The centre of each stage, and the points that the line from one stage to another passes between columns.
    """
    vertices = {stage: Vertex(stage) for stage in graph}
    edges = [Edge(vertices[source], vertices[stage]) for stage, sources in graph.items() for source in sources]
    for vertex in vertices.values():
        vertex.view = _Box()
    for edge in edges:
        edge.view = EdgeViewer()
    # Not `Graph`, which orders what it finds by memory addresses: the picture would change from run to run.
    sugiyama = SugiyamaLayout(graph_core(list(vertices.values()), edges))
    sugiyama.xspace, sugiyama.yspace = _ROW_GAP, _COLUMN_GAP
    # Called for each edge once its points are known; straight lines need no more.
    sugiyama.route_edge = lambda edge, points: None
    sugiyama.init_all()
    sugiyama.draw(6)
    centres = {stage: _turned(vertex.view.xy) for stage, vertex in vertices.items()}
    lines = {(edge.v[0].data, edge.v[1].data): [_turned(point) for point in edge.view._pts[1:-1]] for edge in edges}
    return centres, lines


def draw(graph: Graphs, stages: Mapping[str, type[StageConfig]]) -> Figure:
    """The graph as a figure: a box for each stage in its group's colour, a thick rim where the output is a model."""
    centres, lines = layout(graph)
    xs, ys = zip(*[*centres.values(), *(point for line in lines.values() for point in line)], strict=True)
    left, right = min(xs) - _WIDTH / 2 - 14, max(xs) + _WIDTH / 2 + 14
    bottom, top = min(ys) - _HEIGHT / 2 - 48, max(ys) + _HEIGHT / 2 + 14
    figure = Figure(figsize=((right - left) / 72, (top - bottom) / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    for (source, target), between in lines.items():
        _draw_arrow(axes, centres[source], between, centres[target])
    for stage, centre in centres.items():
        config = stages[stage]
        group = config.__module__.split(".")[1]
        _draw_box(axes, centre, stage.replace("_", "\n"), _COLOURS[group], is_model=config.output == "model")
    _draw_legend(axes, left + 14, bottom + 18)
    return figure


def to_svg(figure: Figure) -> str:
    """The figure as SVG, the same text each time."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "pathoflow", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": "The Patho-R1 pipeline"})
    # Matplotlib leaves blanks at line ends, which editors and hooks would strip.
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def picture() -> dict[Path, str]:
    """What the picture's file must hold."""
    graph = graph_of(compile_recipe(load_recipe("smoke", catalogue())))
    return {PICTURE: to_svg(draw(graph, catalogue()))}


def _turned(point: Sequence[float]) -> Point:
    return float(point[1]), -float(point[0])


def _draw_arrow(axes: Axes, source: Point, between: Sequence[Point], target: Point) -> None:
    """A line that leaves its source to the right, passes each point level, and enters its target from the left."""
    start, end = (source[0] + _WIDTH / 2, source[1]), (target[0] - _WIDTH / 2 - 1, target[1])
    # A line crosses a column at one height from edge to edge, so that it cannot touch the boxes above and below.
    stops = [(x + side * _WIDTH / 2, y) for x, y in between for side in (-1, 1)]
    points, codes = [start], [Curve.MOVETO]
    for at, (a, b) in enumerate(zip([start, *stops], [*stops, end], strict=True)):
        if at % 2:
            points.append(b)
            codes.append(Curve.LINETO)
        else:
            middle = (a[0] + b[0]) / 2
            points += [(middle, a[1]), (middle, b[1]), b]
            codes += [Curve.CURVE4] * 3
    arrow = FancyArrowPatch(
        path=Curve(points, codes), arrowstyle="-|>,head_length=4,head_width=2", color=_LINE, linewidth=1.1, zorder=1
    )
    axes.add_patch(arrow)


def _draw_box(axes: Axes, centre: Point, text: str, colour: str, *, is_model: bool) -> None:
    corner = (centre[0] - _WIDTH / 2, centre[1] - _HEIGHT / 2)
    rim: dict[str, Any] = {"edgecolor": _INK, "linewidth": 2.0 if is_model else 0.7}
    style = "round,pad=0,rounding_size=7"
    axes.add_patch(FancyBboxPatch(corner, _WIDTH, _HEIGHT, boxstyle=style, facecolor=colour, zorder=2, **rim))
    lines = text.split("\n")
    for at, line in enumerate(lines):
        # Each line by its own baseline: matplotlib centres a block by its ink, which letters such as g pull upwards.
        baseline = centre[1] - 5 + _LEADING * ((len(lines) - 1) / 2 - at)
        axes.text(centre[0], baseline, line, ha="center", va="baseline", fontsize=14.5, color=_INK, zorder=3)


def _draw_legend(axes: Axes, x: float, y: float) -> None:
    entries = [(name.replace("_", " "), colour, 0.7) for name, colour in _COLOURS.items()]
    for text, colour, rim in [*entries, ("makes a model", "white", 2.0)]:
        style = "round,pad=0,rounding_size=3"
        swatch = FancyBboxPatch((x, y - 7), 20, 14, boxstyle=style, facecolor=colour, edgecolor=_INK, linewidth=rim)
        axes.add_patch(swatch)
        axes.text(x + 27, y - 5, text, va="baseline", fontsize=14, color=_INK)
        x += 50 + 8.6 * len(text)


if __name__ == "__main__":
    drift.main(picture(), "python -m tools.picture")
