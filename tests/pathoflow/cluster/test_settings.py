"""The parameters of an overlay."""

from __future__ import annotations

import tomllib

import pytest
import yaml

from pathoflow.cluster.settings import LOCAL_IMAGES, PLACEHOLDER_DIGEST, load_cluster
from pathoflow.contract.code import REPOSITORY
from pathoflow.errors import ConfigError
from tests.support.overlays import parameters, write_overlay


def test_the_parameters_are_those_of_the_config_map(tmp_path):
    cluster = load_cluster(write_overlay(tmp_path))
    assert cluster.namespace == "ml"
    assert cluster.dvc_remote == "s3://data/dvc"
    assert cluster.registry == "s3://models/mlflow/registry"
    assert cluster.image("rl").startswith("registry.example/pathoflow-rl@sha256:")
    assert load_cluster(tmp_path / "parameters.yaml") == cluster


def test_digests_that_nobody_wrote_are_known(tmp_path):
    assert load_cluster(write_overlay(tmp_path)).placeholders() == []
    cluster = load_cluster(write_overlay(tmp_path, train_image=f"registry.example/train@{PLACEHOLDER_DIGEST}"))
    assert cluster.placeholders() == ["train_image"]


def test_a_wrong_parameter_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"parameters\.yaml: object_store: "):
        load_cluster(write_overlay(tmp_path, object_store="seaweedfs:8333"))
    with pytest.raises(ConfigError, match=r"parameters\.yaml: bukket: "):
        load_cluster(write_overlay(tmp_path, bukket="data"))


def test_what_is_no_overlay_is_told(tmp_path):
    with pytest.raises(ConfigError, match="Give an overlay"):
        load_cluster(tmp_path)
    (tmp_path / "parameters.yaml").write_text(yaml.safe_dump({"kind": "Secret", "data": parameters()}))
    with pytest.raises(ConfigError, match="must be a ConfigMap"):
        load_cluster(tmp_path)


def test_local_images_bear_the_version():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert {image.partition(":")[2] for image in LOCAL_IMAGES.values()} == {version}
