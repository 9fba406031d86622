"""Which starting models a recipe may name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from components.training.cpt.config import CptConfig
from pathoflow.errors import ConfigError


def test_a_model_of_the_hub_must_be_pinned():
    with pytest.raises(ValidationError, match="revision: name the commit"):
        CptConfig(model="Qwen/Qwen2.5-VL-3B-Instruct")
    assert CptConfig(model="Qwen/Qwen2.5-VL-3B-Instruct", revision="6628554").on_hub


def test_a_models_directory_is_part_of_the_key(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert CptConfig(model=str(tmp_path)).external_files() == [tmp_path / "config.json"]
    with pytest.raises(ConfigError, match="there is no model in"):
        CptConfig(model=str(tmp_path / "none")).external_files()


def test_a_model_is_named_or_built_but_not_both():
    named = CptConfig(model="/models/qwen")
    named.check_inputs({"corpus"})
    CptConfig().check_inputs({"corpus", "base_model"})
    with pytest.raises(ConfigError, match=r"cpt\.model is null .*add base_model\.yaml"):
        CptConfig().check_inputs({"corpus"})
    with pytest.raises(ConfigError, match=r"cpt\.model is /models/qwen, .*set cpt\.model to null"):
        named.check_inputs({"corpus", "base_model"})


def test_a_cache_and_data_workers_exclude_each_other():
    with pytest.raises(ValidationError, match="data_workers = 0"):
        CptConfig(cached_samples=5, data_workers=2)
