"""The paper's recipes: they load, differ where the paper says, and name a source for every value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from components import catalogue
from pathoflow.contract.recipe import RECIPES, load_recipe
from pathoflow.data.lexicon import Lexicon
from pathoflow.training.config import FineTuningConfig

PAPER = ["paper_3b", "paper_7b"]
SOURCED = [*PAPER, "single_gpu"]
MARKED = re.compile(r"#\s*(?:[PRD]\b|ours\b)")


def _stage_files(name: str) -> list[Path]:
    return [RECIPES / name / f"{stage}.yaml" for stage in load_recipe(name, catalogue()).stages]


@pytest.mark.parametrize("name", SOURCED)
def test_every_stage_but_those_of_the_demo_takes_part(name: str) -> None:
    assert set(load_recipe(name, catalogue()).stages) == set(catalogue()) - {"teaching_atlas", "base_model"}


@pytest.mark.parametrize("name", SOURCED)
def test_every_value_names_its_source(name: str) -> None:
    for path in _stage_files(name):
        values, _, _ = path.read_text().partition("\ncompute:")
        unmarked = [line for line in values.splitlines() if line.strip() and not MARKED.search(line)]
        # A comment above may go on over several lines; what it stands for is marked itself.
        assert [line for line in unmarked if not line.lstrip().startswith("#")] == [], path


@pytest.mark.parametrize("name", SOURCED)
def test_only_training_and_evaluation_ask_for_gpus(name: str) -> None:
    recipe = load_recipe(name, catalogue())
    with_gpus = {stage for stage, compute in recipe.compute.items() if compute.gpus_per_node}
    assert with_gpus == {"pathoclip", "cpt", "sft", "rl", "vqa_benchmarks"}
    for stage in with_gpus:
        assert recipe.compute[stage].shm, f"{stage} needs room for NCCL in /dev/shm"


def _differences(first: str, second: str) -> set[str]:
    recipes = [load_recipe(name, catalogue()) for name in (first, second)]
    return {
        f"{stage}.{key}"
        for stage, config in recipes[0].stages.items()
        for key, value in config.resolved().items()
        if value != recipes[1].stages[stage].resolved()[key]
    }


def test_the_two_sizes_differ_in_their_models_and_in_what_the_larger_ones_leave_room_for() -> None:
    models = {"cpt.model", "cpt.revision", "pathoclip.model", "pathoclip.revision", "register.model_name"}
    room = {"rl.steps_per_generation", "pathoclip.batch_size", "pathoclip.num_steps", "pathoclip.warmup_steps"}
    assert _differences(*PAPER) == models | room


def test_on_one_gpu_adapters_learn_and_steps_are_of_as_many_samples() -> None:
    adapters = {"lora_rank", "lora_alpha", "freeze_merger", "learning_rate"}
    machine = {"num_processes", "batch_size_per_process", "deepspeed_stage"}
    tuned = {f"{stage}.{key}" for stage in ("cpt", "sft") for key in adapters | machine}
    rounds = {"prompts_per_step", "steps_per_generation", "gradient_accumulation_steps", "max_steps"}
    kept = {"freeze_vision_tower", "num_processes", "deepspeed_stage", "save_every_steps", "eval_every_steps"}
    sampled = {f"rl.{key}" for key in adapters | rounds | kept}
    named = {"register.model_name", "vqa_benchmarks.num_processes"}
    assert _differences("paper_3b", "single_gpu") == tuned | sampled | named
    recipes = [load_recipe(name, catalogue()) for name in ("paper_3b", "single_gpu")]
    for stage in ("cpt", "sft"):
        few, many = (recipe.stages[stage] for recipe in recipes)
        assert isinstance(few, FineTuningConfig)
        assert isinstance(many, FineTuningConfig)
        assert few.samples_per_step(few.num_processes) == many.samples_per_step(many.num_processes)


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
