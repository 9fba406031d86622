"""The compiled pipelines are the ones under review in `tests/golden`, and Kubeflow Pipelines' own parser takes them."""

from __future__ import annotations

import pytest
from kfp.client import client as kfp_client

from pathoflow.contract.recipe import recipe_names
from tools.golden import GOLDEN, PIPELINES, Pipeline


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.name)
def test_compiled_pipeline_is_the_golden_one(pipeline: Pipeline) -> None:
    assert pipeline.file.is_file(), "run `make golden`"
    assert pipeline.golden() == pipeline.file.read_text(), "run `make golden` and read the change"


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.name)
def test_kfp_parses_it(pipeline: Pipeline, tmp_path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(pipeline.compiled())
    parsed = kfp_client._extract_pipeline_yaml(str(file))
    assert parsed.pipeline_spec.schema_version == "2.1.0"
    assert ("kubernetes" in parsed.platform_spec.platforms) == (pipeline.overlay is not None)


def test_every_golden_file_has_its_pipeline() -> None:
    assert sorted(GOLDEN.iterdir()) == sorted(pipeline.file for pipeline in PIPELINES)
    assert {pipeline.recipe for pipeline in PIPELINES if pipeline.overlay} == set(recipe_names())
    assert {pipeline.recipe for pipeline in PIPELINES if not pipeline.overlay} == set(recipe_names())
