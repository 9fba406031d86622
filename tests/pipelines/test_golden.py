"""The compiled pipeline of every recipe is the one under review in `tests/golden`."""

from __future__ import annotations

import pytest

from components import catalogue
from pathoflow.recipe import load_recipe, recipe_names
from pipelines.compile import compile_recipe
from tools.golden import GOLDEN


@pytest.mark.parametrize("name", recipe_names())
def test_compiled_pipeline_is_the_golden_one(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    assert path.is_file(), "run `make golden`"
    assert compile_recipe(load_recipe(name, catalogue())) == path.read_text(), "run `make golden` and read the change"


def test_every_golden_file_has_its_recipe() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == recipe_names()
