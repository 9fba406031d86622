"""The picture of the graph: complete, without lines through boxes, and the one in the repository."""

from __future__ import annotations

import pytest

from components import catalogue
from pathoflow.contract.recipe import load_recipe
from pipelines.compile import compile_recipe, graph_of
from tools import drift, picture


@pytest.fixture(scope="module")
def graph() -> dict[str, tuple[str, ...]]:
    return graph_of(compile_recipe(load_recipe("smoke", catalogue())))


def test_every_stage_stands_to_the_right_of_its_inputs(graph: dict[str, tuple[str, ...]]) -> None:
    centres, lines = picture.layout(graph)
    assert set(centres) == set(graph)
    for stage, sources in graph.items():
        for source in sources:
            assert centres[source][0] + picture._WIDTH < centres[stage][0]
            assert (source, stage) in lines


def test_no_line_runs_through_a_box(graph: dict[str, tuple[str, ...]]) -> None:
    centres, lines = picture.layout(graph)
    for line in lines.values():
        for x, y in line:
            same_column = [centre for centre in centres.values() if abs(centre[0] - x) < picture._WIDTH / 2]
            assert all(abs(centre[1] - y) > picture._HEIGHT / 2 for centre in same_column)


def test_the_picture_in_the_repository_is_up_to_date() -> None:
    assert drift.drifted(picture.picture()) == [], "run `python -m tools.picture`"
