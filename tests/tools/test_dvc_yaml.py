"""`dvc.yaml` is what its generator writes; tests/pipelines compares it with KFP's graph."""

from __future__ import annotations

import yaml

from pathoflow.contract.code import REPOSITORY
from tools import drift, dvc_yaml


def test_it_is_up_to_date() -> None:
    assert drift.drifted(dvc_yaml.dvc_yaml()) == [], "run `make docs`"


def test_a_stage_depends_on_what_its_code_imports_and_on_nothing_else() -> None:
    atlas, cpt = (dvc_yaml.rooms(f"components.{name}") for name in ("data_processing.teaching_atlas", "training.cpt"))
    assert {"pathoflow/training", "pathoflow/modeling", "pathoflow/errors.py"} <= set(cpt)
    assert not {"pathoflow/training", "pathoflow/modeling", "pathoflow/cluster"} & set(atlas)
    assert all((REPOSITORY / room).exists() for room in (*atlas, *cpt))


def test_it_has_the_stages_of_the_recipe_in_params(tmp_path, monkeypatch) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("recipe: paper_3b\nworkdir: runs/x\n")
    monkeypatch.setattr(dvc_yaml, "PARAMS", params)
    stages = yaml.safe_load(dvc_yaml.dvc_yaml()[dvc_yaml.DVC_YAML])["stages"]
    assert not {"teaching_atlas", "base_model"} & stages.keys()
    assert "${workdir}/base_model" not in stages["cpt"]["deps"]
    # Another recipe's file is named as it is.
    assert "recipes/paper_7b/lexicon.yaml" in stages["reasoning_data"]["deps"]
