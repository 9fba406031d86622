"""How many processes there are, and how DeepSpeed shares the memory among them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import safetensors.torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pathoflow.contract.output import StageOutput
from pathoflow.errors import ConfigError
from pathoflow.training import supervision
from pathoflow.training.checkpoints import MARKER, PREFIX
from pathoflow.training.job import Job
from pathoflow.training.parallelism import fit_to_gpus, num_gpus
from tests.support.toy_training.attempt import Attempt, outcome
from tests.support.toy_training.config import ToyTrainingConfig


def test_fewer_gpus_than_asked_for_are_refused_or_made_up_for(tmp_path):
    config = ToyTrainingConfig(num_processes=8, gradient_accumulation_steps=4)
    with pytest.raises(ConfigError, match="asks for 8 GPUs and finds 3"):
        fit_to_gpus(config, 3)
    with pytest.raises(ConfigError, match="asks for 8 GPUs and finds 0"):
        fit_to_gpus(config.model_copy(update={"needs_gpus": True, "fewer_gpus": "accumulate"}), 0)
    assert fit_to_gpus(config, 0) == config, "the CPU computes"
    assert fit_to_gpus(config, 8) == config
    allowed = config.model_copy(update={"fewer_gpus": "accumulate"})
    fitted = fit_to_gpus(allowed, 3)
    assert (fitted.num_processes, fitted.gradient_accumulation_steps) == (2, 16)

    # The processes read it from the job.
    out = StageOutput(tmp_path / "output", tmp_path / "scratch")
    created = Job.create(allowed, {}, out)
    config, job = supervision.fit(created, allowed, 3)
    supervision.prepare(job, config).write()
    job = Job.load(job.file)
    assert job.settings(ToyTrainingConfig).gradient_accumulation_steps == 16
    job.finish({})
    created.collect(out)
    assert "2 instead of 8" in out.notes["processes"]


def test_nodes_share_the_processes_evenly():
    config = ToyTrainingConfig(num_processes=8, gradient_accumulation_steps=3, fewer_gpus="accumulate")
    assert fit_to_gpus(config, 8, nodes=2) == config
    with pytest.raises(ConfigError, match="which 3 nodes cannot share evenly"):
        fit_to_gpus(config, 24, nodes=3)
    fitted = fit_to_gpus(config, 7, nodes=2)
    assert (fitted.num_processes, fitted.gradient_accumulation_steps) == (6, 4)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_a_step_learns_from_as_many_samples_whatever_the_gpus(processes, passes, gpus):
    config = ToyTrainingConfig(num_processes=processes, gradient_accumulation_steps=passes, fewer_gpus="accumulate")
    fitted = fit_to_gpus(config, gpus)
    assert fitted.num_processes <= gpus or fitted == config
    assert fitted.num_processes <= max(gpus, processes)
    assert fitted.num_processes * fitted.gradient_accumulation_steps == processes * passes


def test_gpus_are_those_that_are_visible(monkeypatch):
    for value, number in (("0,2", 2), ("", 0), ("-1", 0), ("GPU-5c1f", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert num_gpus() == number


def test_offloading_takes_deepspeed():
    with pytest.raises(ValidationError, match="needs deepspeed_stage 3"):
        ToyTrainingConfig(offload="all", deepspeed_stage=2)
    ToyTrainingConfig(offload="optimizer", deepspeed_stage=2)


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize(
    "values",
    [
        {"deepspeed_stage": 3, "offload": "all"},
        pytest.param({"deepspeed_stage": 2}, marks=pytest.mark.slow),
        pytest.param({"deepspeed_stage": 2, "offload": "optimizer", "bf16": True}, marks=pytest.mark.slow),
        pytest.param({"deepspeed_stage": 3, "background_checkpoints": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_zero_trains_saves_resumes_exactly_and_exports_whole_weights(tmp_path, values):
    values = {"max_steps": 8, "save_every_steps": 4, "kept_checkpoints": 9, "bf16": False, **values}
    where = tmp_path / "run"
    whole = Attempt(where, **values)
    assert whole.end() == 0, whole.words()
    first = outcome(where)
    weights = safetensors.torch.load(first[0])
    assert weights["first.weight"].shape == (16, 16)
    assert first[1][8] < first[1][1]
    # As if it had been killed before the last checkpoint was complete.
    (whole.checkpoints / f"{PREFIX}8" / MARKER).unlink()
    resumed = Attempt(where, **values)
    assert resumed.end() == 0, resumed.words()
    assert outcome(where) == first
