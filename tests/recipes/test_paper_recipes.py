"""The paper's recipes: they load, differ where the paper says, and name a source for every value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from components import catalogue
from pathoflow.lexicon import Lexicon
from pathoflow.recipe import RECIPES, load_recipe

PAPER = ["paper_3b", "paper_7b"]
MARKED = re.compile(r"#\s*(?:[PRD]\b|ours\b)")


def _stage_files(name: str) -> list[Path]:
    return [RECIPES / name / f"{stage}.yaml" for stage in load_recipe(name, catalogue()).stages]


@pytest.mark.parametrize("name", PAPER)
def test_every_stage_but_the_atlas_takes_part(name: str) -> None:
    assert set(load_recipe(name, catalogue()).stages) == set(catalogue()) - {"teaching_atlas"}


@pytest.mark.parametrize("name", PAPER)
def test_every_value_names_its_source(name: str) -> None:
    for path in _stage_files(name):
        values, _, _ = path.read_text().partition("\ncompute:")
        unmarked = [line for line in values.splitlines() if line.strip() and not MARKED.search(line)]
        # A comment above may go on over several lines; what it stands for is marked itself.
        assert [line for line in unmarked if not line.lstrip().startswith("#")] == [], path


@pytest.mark.parametrize("name", PAPER)
def test_only_training_and_evaluation_ask_for_gpus(name: str) -> None:
    recipe = load_recipe(name, catalogue())
    with_gpus = {stage for stage, compute in recipe.compute.items() if compute.gpus_per_node}
    assert with_gpus == {"pathoclip", "cpt", "sft", "rl", "vqa_benchmarks"}
    for stage in with_gpus:
        assert recipe.compute[stage].shm, f"{stage} needs room for NCCL in /dev/shm"


def test_the_two_sizes_differ_in_their_models_alone() -> None:
    recipes = [load_recipe(name, catalogue()) for name in PAPER]
    different = {
        f"{stage}.{key}"
        for stage, config in recipes[0].stages.items()
        for key, value in config.resolved().items()
        if value != recipes[1].stages[stage].resolved()[key]
    }
    assert different == {
        "cpt.model",
        "cpt.revision",
        "pathoclip.model",
        "pathoclip.revision",
        "register.model_name",
    }


@pytest.mark.parametrize("name", PAPER)
def test_the_lexicon_spans_the_papers_subfields(name: str) -> None:
    path = RECIPES / name / yaml.safe_load((RECIPES / name / "diagnosis_mcqs.yaml").read_text())["lexicon"]
    lexicon = Lexicon.load(path)
    assert {diagnosis.subfield for diagnosis in lexicon.diagnoses} == {
        "histopathology",
        "gross examination",
        "immunohistochemistry",
        "cytology",
        "FISH",
    }


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("Clear cell carcinoma of the ovary, hobnail cells.", "ovarian_clear_cell_carcinoma"),
        ("右肾血管平滑肌脂肪瘤", "angiomyolipoma"),
        ("软骨肉瘤,可见软骨样基质", "chondrosarcoma"),
        ("Non-small cell carcinoma of the lung", None),
        ("Osteosarcoma beside chondrosarcoma", None),
    ],
)
def test_names_inside_other_names_are_not_found(caption: str, found: str | None) -> None:
    diagnosis = Lexicon.load(RECIPES / "paper_7b" / "lexicon.yaml").find(caption)
    assert (diagnosis and diagnosis.id) == found
