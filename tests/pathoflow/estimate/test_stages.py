"""The shipped recipes fit; what is too large is told, with values that fit when they are set."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components import catalogue
from pathoflow.contract.recipe import Recipe, load_recipe, recipe_names
from pathoflow.estimate.data_sizes import data_sizes
from pathoflow.estimate.devices import GIB, GPUS
from pathoflow.estimate.fit_warnings import fit_warnings
from pathoflow.estimate.stage_estimate import StageEstimate
from pathoflow.estimate.stages import Assumptions, estimate, estimate_stage
from pathoflow.estimate.suggestions import suggestions

GPU = "h100-80"


@cache
def loaded(name: str, *overrides: str) -> Recipe:
    return load_recipe(name, catalogue(), overrides)


def assumptions(recipe: Recipe, gpu: str = GPU, **given: int) -> Assumptions:
    return Assumptions(GPUS[gpu], data_sizes(recipe.stages, **given))


def stage_of(name: str, stage: str, *overrides: str, gpu: str = GPU) -> StageEstimate:
    recipe = loaded(name, *overrides)
    return estimate_stage(recipe, stage, assumptions(recipe, gpu))


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_fits(name: str) -> None:
    recipe = loaded(name)
    stages = estimate(recipe, assumptions(recipe))
    assert [stage.stage for stage in stages] == ["cpt", "sft", "rl", "vqa_benchmarks", "pathoclip"]
    assert {stage.stage: stage.faults() for stage in stages if stage.faults()} == {}
    late = [stage.stage for stage in stages if stage.seconds and stage.deadline and stage.seconds > stage.deadline]
    assert late == []
    assert max(stage.gpus for stage in stages) == {"smoke": 0, "single_gpu": 1}.get(name, 8)


# The recipes as they were: what they asked for could not be had.
TOO_LARGE = [
    ("rl", ("rl.steps_per_generation=4",)),
    ("pathoclip", ("pathoclip.batch_size=256", "pathoclip.num_steps=13672")),
    ("cpt", ("cpt.gradient_checkpointing=false",)),
    ("cpt", ("cpt.deepspeed_stage=0",)),
    ("cpt", ("cpt.num_processes=1", "cpt.batch_size_per_process=256", "cpt.deepspeed_stage=0")),
    ("vqa_benchmarks", ("vqa_benchmarks.batch_size=1024",)),
    ("rl", ("rl.max_completion_tokens=16384",)),
    ("sft", ("sft.compute.memory=64Gi", "sft.compute.shm=1Gi")),
]


ONE_PROCESS = ("rl.prompts_per_step=8", "rl.gradient_accumulation_steps=10", "rl.steps_per_generation=1")


@pytest.mark.parametrize(("stage", "values"), TOO_LARGE, ids=[" ".join(values) for _, values in TOO_LARGE])
def test_what_is_too_large_is_told_with_values_that_fit(stage: str, values: tuple[str, ...]) -> None:
    recipe = loaded("paper_7b", *values)
    asked = assumptions(recipe)
    assert estimate_stage(recipe, stage, asked).faults()
    found = suggestions(recipe, stage, asked)
    assert found
    for suggestion in found:
        # As somebody would type it.
        typed = [word for word in suggestion.options.split() if word != "--set"]
        again = load_recipe("paper_7b", catalogue(), [*values, *typed])
        assert estimate_stage(again, stage, asked).faults() == []


def test_the_largest_batch_that_fits_is_found() -> None:
    recipe = loaded("paper_7b", "pathoclip.batch_size=256")
    (found,) = suggestions(recipe, "pathoclip", assumptions(recipe))
    assert found.changes["batch_size"] % 8 == 0
    larger = loaded("paper_7b", f"pathoclip.batch_size={found.changes['batch_size'] + 8}")
    assert estimate_stage(larger, "pathoclip", assumptions(larger)).faults()


def test_nothing_is_suggested_where_nothing_fits() -> None:
    recipe = loaded("paper_7b", "pathoclip.compute.memory=768Gi")
    # Ten times the pairs do not fit the node in any way.
    found = suggestions(recipe, "pathoclip", assumptions(recipe, pairs=35_000_000))
    assert all("compute.memory" in suggestion.changes for suggestion in found)


def test_plain_generation_by_the_7b_model_ends_past_some_1500_tokens_a_completion() -> None:
    values = "rl.steps_per_generation=4"
    short, long = (
        stage_of("paper_7b", "rl", values, f"rl.max_completion_tokens={tokens}", "rl.overlong_cache_tokens=256")
        for tokens in (1400, 2000)
    )
    assert not short.faults()
    assert "last token" in long.faults()[0]


def test_a_fuller_gpu_is_told_by_the_moment() -> None:
    stage = stage_of("paper_7b", "rl", "rl.steps_per_generation=4")
    assert stage.peak.name == "last token generated"
    assert stage.peak.parts["kv_cache"] > 40 * GIB


def test_dev_questions_may_need_more_than_sampling() -> None:
    stage = stage_of("paper_7b", "rl", "rl.eval_batch_size=1024", "rl.num_processes=1", *ONE_PROCESS)
    assert stage.peak.total > stage_of("paper_7b", "rl", "rl.num_processes=1", *ONE_PROCESS).peak.total


def test_two_models_are_there_while_the_next_is_loaded() -> None:
    stage = stage_of("paper_7b", "vqa_benchmarks")
    assert stage.peak.name == "next model loaded"
    assert stage.peak.parts["weights"] == 4 * stage.parameters


def test_adapters_need_no_second_model_and_hardly_any_states() -> None:
    full = stage_of("paper_3b", "cpt")
    adapters = stage_of("single_gpu", "cpt")
    assert adapters.learning < full.learning / 100
    assert adapters.peak.parts["optimizer"] < full.peak.parts["optimizer"] / 10


def test_a_stage_without_gpus_has_its_model_in_host_memory() -> None:
    stage = stage_of("smoke", "cpt")
    assert stage.gpu_limit is None
    assert stage.seconds is None
    assert stage.host["model and activations"] == pytest.approx(2 * stage.peak.total)


@settings(max_examples=20, deadline=None)
@given(pack=st.integers(12, 17), more=st.integers(1, 3))
def test_longer_packs_take_more(pack: int, more: int) -> None:
    short, long = (stage_of("paper_3b", "sft", f"sft.pack_tokens={2**power}") for power in (pack, pack + more))
    # A pack never holds more than all samples of a step.
    assert short.peak.total <= long.peak.total


def test_misfits_are_warnings_with_a_remedy() -> None:
    assert fit_warnings(loaded("paper_7b"), GPU) == []
    (finding,) = fit_warnings(loaded("paper_7b", "rl.steps_per_generation=4"), GPU)
    assert finding.level == "warning"
    assert "85." in finding.detail
    assert "--set rl.steps_per_generation=2" in finding.remedy


def test_an_unknown_model_is_no_failure_of_a_warning() -> None:
    recipe = loaded("paper_3b", "cpt.model=org/other", "cpt.revision=abcdef0")
    (finding,) = fit_warnings(recipe, GPU)
    assert finding.level == "unknown"


def test_numbers_of_samples_name_their_source(tmp_path) -> None:
    stages = loaded("paper_3b").stages
    assert data_sizes(stages).samples == 525_000
    data = data_sizes(stages, pairs=1000)
    assert data.pairs == 1000
    assert "1,000 pairs (as you said)" in data.summary()
    assert "10,000 questions (diagnosis_mcqs.num_train)" in data.summary()
