"""`dvc.yaml` and the KFP pipeline are two faces of one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components import catalogue
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.recipe import load_recipe
from pipelines.compile import graph_of
from tools.golden import compiled


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def graph() -> dict[str, tuple[str, ...]]:
    return graph_of(compiled("smoke"))


def _inputs(stage: dict[str, Any]) -> list[str]:
    prefix = "${workdir}/"
    return [dependency.removeprefix(prefix) for dependency in stage["deps"] if dependency.startswith(prefix)]


def test_both_name_the_same_stages_with_the_same_inputs(stages, graph) -> None:
    assert {name: sorted(_inputs(stage)) for name, stage in stages.items()} == {
        name: sorted(inputs) for name, inputs in graph.items()
    }


def test_the_order_of_dvc_yaml_can_be_run(stages) -> None:
    seen: set[str] = set()
    for name, stage in stages.items():
        assert set(_inputs(stage)) <= seen, f"{name} stands before what it needs"
        seen.add(name)


def test_the_catalogue_and_the_graph_agree_on_inputs(graph) -> None:
    assert {stage: set(inputs) for stage, inputs in graph.items()} == {
        stage: set(config.inputs) for stage, config in catalogue().items()
    }


def test_each_dvc_stage_depends_on_its_code_and_its_recipe_file(stages) -> None:
    for name, stage in stages.items():
        package = catalogue()[name].__module__.rpartition(".")[0]
        folder = package.replace(".", "/")
        assert folder in stage["deps"]
        assert (REPOSITORY / folder / "__main__.py").is_file()
        assert f"python -m {package} " in stage["cmd"]
        assert stage["params"] == [{f"recipes/${{recipe}}/{name}.yaml": None}]
        assert stage["outs"] == [f"${{workdir}}/{name}"]


def test_files_that_a_recipe_refers_to_are_dependencies(stages) -> None:
    recipe = load_recipe("smoke", catalogue())
    for name, config in recipe.stages.items():
        for path in config.external_files():
            relative = Path(path).resolve().relative_to(REPOSITORY).as_posix()
            assert relative.replace("smoke", "${recipe}") in stages[name]["deps"], (name, relative)
