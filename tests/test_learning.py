"""The smoke run at full length: the models learn, and they learn by looking. Minutes of training; `make test-slow`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pathoflow.contract.sealing import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "full"
    command = [str(Path(sys.executable).with_name("pathoflow")), "run", "--recipe", "smoke", "--workdir", str(workdir)]
    subprocess.run(command, check=True, timeout=3000)
    return workdir


@pytest.fixture(scope="module")
def scores(finished) -> dict[str, float]:
    return read_manifest(finished / "vqa_benchmarks").metrics


def test_there_are_enough_questions(scores) -> None:
    assert scores["num_items"] >= 400


@pytest.mark.parametrize("name", ["base", "sft_blank", "rl_blank"])
def test_without_training_or_without_the_image_a_model_guesses(scores, name) -> None:
    assert scores[f"accuracy_{name}_low"] <= scores["chance"] <= scores[f"accuracy_{name}_high"]


def test_fine_tuning_at_least_doubles_chance(scores) -> None:
    assert scores["accuracy_sft"] >= 2 * scores["chance"]


def test_reinforcement_learning_gains_on_fine_tuning(scores) -> None:
    assert scores["accuracy_rl"] > scores["accuracy_sft"]


def test_pathoclip_finds_the_caption_of_an_image_it_never_saw(finished) -> None:
    metrics = read_manifest(finished / "pathoclip").metrics
    assert metrics["recall_at_1"] >= 10 * metrics["recall_at_1_chance"]
