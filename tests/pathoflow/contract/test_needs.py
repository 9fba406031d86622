"""What a configuration needs is what its values say, at any depth."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from components import catalogue
from components.deployment.register.config import RegisterConfig
from components.training.cpt.config import CptConfig
from components.training.pathoclip.config import PathoclipConfig
from pathoflow.contract.config import StageConfig
from pathoflow.contract.needs import ENDPOINT_SECRET, HUB_SECRET, SIGNING_SECRET, Secret
from pathoflow.errors import ConfigError
from pathoflow.inference.endpoint import Endpoint

URL = "https://models.example/v1"


class AskingConfig(StageConfig):
    stage: ClassVar[str] = "asking"

    one: Endpoint | None = None
    several: tuple[Endpoint, ...] = ()
    named: dict[str, Endpoint] = Field(default={})
    books: tuple[Path, ...] = ()


def endpoint(variable: str | None = None) -> Endpoint:
    return Endpoint(url=URL, model="qwen", api_key_variable=variable)


def key(variable: str) -> Secret:
    return Secret(variable, ENDPOINT_SECRET, variable)


def test_a_stage_without_an_endpoint_needs_nothing():
    assert AskingConfig().secrets() == ()
    assert AskingConfig().egress() == frozenset()


def test_the_keys_of_its_endpoints_are_required_each_once_wherever_they_stand():
    config = AskingConfig(
        one=endpoint("ONE_KEY"),
        several=(endpoint("TWO_KEY"), endpoint("ONE_KEY")),
        named={"judge": endpoint("JUDGE_KEY"), "open": endpoint()},
    )
    assert config.secrets() == (key("ONE_KEY"), key("TWO_KEY"), key("JUDGE_KEY"))
    assert all(secret.is_required for secret in config.secrets())
    assert config.egress() == {"endpoint"}


def test_an_endpoint_without_a_key_is_talked_to_all_the_same():
    config = AskingConfig(several=(endpoint(),))
    assert config.secrets() == ()
    assert config.egress() == {"endpoint"}


@pytest.mark.parametrize("config_type", [CptConfig, PathoclipConfig])
def test_only_a_model_of_the_hub_needs_the_hub(config_type, tmp_path):
    of_the_hub = config_type(model="org/model", revision="6628554")
    assert of_the_hub.secrets() == (Secret("HF_TOKEN", HUB_SECRET, "HF_TOKEN", is_required=False),)
    assert of_the_hub.egress() == {"hub"}
    here = config_type(model=str(tmp_path))
    assert (here.secrets(), here.egress(), here.paths()) == ((), frozenset(), [tmp_path])
    assert of_the_hub.paths() == []


def test_the_registrars_key_is_needed_unless_a_throwaway_one_signs():
    (secret,) = RegisterConfig(signing="key").secrets()
    assert (secret.variable, secret.secret, secret.is_file) == ("PATHOFLOW_SIGNING_KEY", SIGNING_SECRET, True)
    throwaway = RegisterConfig(signing="throwaway")
    assert throwaway.secrets() == ()
    with pytest.raises(ConfigError, match=r"--set register\.signing=key"):
        throwaway.check_on_cluster()


def test_paths_are_found_at_any_depth():
    assert AskingConfig(books=(Path("/a.pdf"), Path("b.pdf"))).paths() == [Path("/a.pdf"), Path("b.pdf")]


def test_what_stages_declare_of_themselves_holds_together():
    for stage, config in catalogue().items():
        assert not config.keeps_checkpoints or config.output == "model", stage
        assert not config.can_span_nodes or config.can_use_gpus, stage
        assert not config.can_use_gpus or config.image != "cpu", stage
    assert [stage for stage, config in catalogue().items() if config.writes_registry] == ["register"]
    assert [stage for stage, config in catalogue().items() if not config.can_be_reused] == ["register"]
