"""The catalogue: every stage, each after those whose output it takes."""

from __future__ import annotations

import ast
import inspect
import sys

import pytest

from components import catalogue
from pathoflow.contract.code import REPOSITORY, stage_package

STAGES = [
    "teaching_atlas",
    "textbook_pairs",
    "public_pairs",
    "corpus",
    "pathoclip",
    "reasoning_data",
    "diagnosis_mcqs",
    "base_model",
    "cpt",
    "sft",
    "rl",
    "vqa_benchmarks",
    "register",
]


def test_every_stage_is_found_once_under_its_folders_name():
    assert sorted(catalogue()) == sorted(STAGES)
    for stage, config in catalogue().items():
        assert stage_package(config).rpartition(".")[2] == stage


def test_each_stage_comes_after_its_inputs():
    order = list(catalogue())
    for stage, config in catalogue().items():
        for source in config.inputs:
            assert order.index(source) < order.index(stage), f"{stage} stands before {source}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_says_what_it_means(stage):
    for name, field in catalogue()[stage].model_fields.items():
        assert field.description, f"{stage}.{name} has no description"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_what_it_makes(stage):
    assert catalogue()[stage].output in ("data", "model")


@pytest.mark.parametrize("stage", STAGES)
def test_the_component_and_the_configuration_name_the_same_inputs_in_the_same_order(stage):
    config = catalogue()[stage]
    package = stage_package(config)
    __import__(f"{package}.component")
    component = getattr(sys.modules[f"{package}.component"], stage)
    inputs = [name for name in inspect.signature(component.python_func).parameters if name not in ("config", "output")]
    assert inputs == [*config.inputs, *(["shard", "parts"] if config.can_shard else [])]


@pytest.mark.parametrize("stage", STAGES)
def test_run_takes_the_inputs_that_the_configuration_names(stage):
    module = stage_package(catalogue()[stage]).replace(".", "/") + "/stage.py"
    (run,) = (
        node
        for node in ast.parse((REPOSITORY / module).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "run"
    )
    taken = [argument.arg for argument in run.args.kwonlyargs if argument.arg not in ("out", "parts")]
    inputs = list(catalogue()[stage].inputs)
    # Those of one kind may come in one map, as the models that could be registered do.
    assert taken == (inputs[: len(taken)] if run.args.kwarg else inputs)
