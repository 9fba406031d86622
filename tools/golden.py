"""Writes the compiled pipeline of every recipe to `tests/golden`: `python -m tools.golden [--check]`.

A change of the graph, of a value or of what a pod asks for then shows in review, where the YAML that Kubeflow gets
would otherwise change unseen.
"""

from __future__ import annotations

from pathlib import Path

from components import catalogue
from pathoflow.code import REPOSITORY
from pathoflow.recipe import load_recipe, recipe_names
from pipelines.compile import compile_recipe
from tools import drift

GOLDEN = REPOSITORY / "tests" / "golden"


def golden_files() -> dict[Path, str]:
    """What each file in `tests/golden` must hold."""
    return {GOLDEN / f"{name}.yaml": compile_recipe(load_recipe(name, catalogue())) for name in recipe_names()}


if __name__ == "__main__":
    drift.main(golden_files(), "python -m tools.golden")
