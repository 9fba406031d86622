"""With other processes a training goes on exactly, or is refused; it never starts anew without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from components.training.cpt.config import CptConfig
from components.training.cpt.stage import run as run_cpt
from components.training.rl.config import RlConfig
from components.training.sft.config import SftConfig
from components.training.sft.stage import run as run_sft
from pathoflow.contract.output import StageOutput
from pathoflow.errors import ConfigError
from pathoflow.training.checkpoints import PREFIX, complete, list_files, newest_complete, staging_of
from pathoflow.training.config import TrainingConfig
from pathoflow.training.curves import read_series
from pathoflow.training.job import Job
from pathoflow.training.supervision import fit, prepare
from tests.support.base_models import build_base_model
from tests.support.conversations import write_colour_corpus, write_reasoning

TWO = {"num_processes": 2, "batch_size_per_process": 4}
ONE = {"num_processes": 1, "batch_size_per_process": 4, "gradient_accumulation_steps": 2}
SAMPLING = {"prompts_per_step": 16, "num_generations": 4, "num_processes": 2, "batch_size_per_process": 8}


def job_of(config: TrainingConfig, scratch: Path) -> Job:
    return Job.create(config, {}, StageOutput(scratch / "output", scratch))


def attempt(config: TrainingConfig, scratch: Path, step: int = 40, code: str | None = None) -> Path:
    """What an attempt leaves that was killed after a checkpoint."""
    job = job_of(config, scratch)
    staging = staging_of(job.checkpoints, step)
    staging.mkdir(parents=True)
    (staging / "weights.safetensors").write_bytes(b"weights")
    list_files(staging, 0, [staging / "weights.safetensors"])
    (scratch / "kept" / "step-20").mkdir(parents=True)
    (scratch / "report" / "series.jsonl").write_text('{"step": 20, "values": {"loss": 2.0}}\n')
    origin = job.origin() | ({"code": {"digest": code}} if code else {})
    return complete(staging, origin, keep=9)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (SftConfig(**TWO), SftConfig(**ONE)),
        (SftConfig(**ONE), SftConfig(**TWO)),
        (SftConfig(**TWO), SftConfig(**TWO, log_every_steps=3, fewer_gpus="accumulate", needs_gpus=True)),
        (SftConfig(**TWO), SftConfig(num_processes=1, batch_size_per_process=8)),
        (CptConfig(**TWO), CptConfig(num_processes=8, batch_size_per_process=1)),
        (SftConfig(**TWO, deepspeed_stage=2), SftConfig(**TWO, deepspeed_stage=2, kept_checkpoints=9)),
        (RlConfig(**SAMPLING, gradient_accumulation_steps=4), RlConfig(**SAMPLING, gradient_accumulation_steps=4)),
    ],
)
def test_what_an_earlier_attempt_left_is_taken_over_where_that_is_exact(tmp_path, capfd, then, now):
    attempt(then, tmp_path / "one")
    job = prepare(job_of(now, tmp_path / "two"), now)
    assert job.checkpoint == tmp_path / "two" / "checkpoints" / f"{PREFIX}40"
    assert newest_complete(job.checkpoints) == job.checkpoint
    assert (tmp_path / "two" / "kept" / "step-20").is_dir()
    assert read_series(job.report)["loss"] == {20: 2.0}
    assert not (tmp_path / "one").exists()
    assert "Taking over what an earlier attempt" in capfd.readouterr().err
    assert ("layout" in job.notes) == (then.num_processes != now.num_processes)
    # The next attempt finds it in its own place.
    assert prepare(job_of(now, tmp_path / "two"), now).checkpoint == job.checkpoint


@pytest.mark.parametrize(
    ("then", "now", "reason"),
    [
        (SftConfig(**TWO), SftConfig(**TWO | {"num_processes": 1}), "learned from 8 samples there and would from 4"),
        (SftConfig(**TWO, deepspeed_stage=2), SftConfig(**ONE, deepspeed_stage=2), "ZeRO spreads"),
        (
            SftConfig(**TWO, lora_rank=2, lora_dropout=0.1, freeze_merger=True),
            SftConfig(**ONE, lora_rank=2, lora_dropout=0.1, freeze_merger=True),
            "drops out",
        ),
        (
            RlConfig(**SAMPLING, gradient_accumulation_steps=4),
            RlConfig(**SAMPLING | {"num_processes": 1}, gradient_accumulation_steps=8),
            "samples completions",
        ),
    ],
)
def test_processes_that_cannot_hand_over_are_refused_with_the_choice(tmp_path, then, now, reason):
    checkpoint = attempt(then, tmp_path / "one")
    with pytest.raises(ConfigError, match=reason) as caught:
        prepare(job_of(now, tmp_path / "two"), now)
    message = str(caught.value)
    assert f"num_processes {now.num_processes} instead of {then.num_processes}" in message
    assert "Restore " in message
    assert f"or delete {tmp_path / 'one'} to start from the beginning" in message
    # Named, or in the attempt's own place, it is no other.
    named = now.model_copy(update={"resume_from": str(checkpoint)})
    with pytest.raises(ConfigError, match=rf"{reason}[^.]*\. Restore .*, or train from the start"):
        prepare(job_of(named, tmp_path / "three"), named)
    with pytest.raises(ConfigError, match=reason):
        prepare(job_of(now, tmp_path / "one"), now)
    # As the message says.
    shutil.rmtree(tmp_path / "one")
    assert prepare(job_of(now, tmp_path / "two"), now).checkpoint is None


@pytest.mark.parametrize(
    ("now", "code", "words"),
    [
        (SftConfig(**TWO, learning_rate=1e-3), None, "the configuration's learning_rate was 1e-05 there and is 0.001"),
        (SftConfig(**ONE, learning_rate=1e-3), None, "the configuration's learning_rate"),
        (SftConfig(**TWO), "sha256:ab", "the code's digest was 'sha256:ab' there"),
        (SftConfig(**TWO | {"batch_size_per_process": 2}), None, "the configuration's batch_size_per_process was 4"),
    ],
)
def test_another_training_starts_from_the_beginning_and_says_why(tmp_path, capfd, now, code, words):
    checkpoint = attempt(SftConfig(**TWO), tmp_path / "one", code=code)
    job = prepare(job_of(now, tmp_path / "two"), now)
    assert job.checkpoint is None
    told = capfd.readouterr().err
    assert f"Starting from the beginning: {checkpoint} belongs to another run" in told
    assert words in told
    assert newest_complete(checkpoint.parent) == checkpoint


def test_the_code_does_not_matter_to_who_names_the_checkpoint(tmp_path):
    checkpoint = attempt(SftConfig(**TWO), tmp_path / "one", code="sha256:ab")
    now = SftConfig(**ONE, resume_from=str(checkpoint))
    job = prepare(job_of(now, tmp_path / "two"), now)
    assert job.checkpoint == checkpoint
    assert job.notes["layout"].endswith("num_processes 1 instead of 2 from step 40 on")


def test_a_lost_gpu_is_made_up_for_from_the_checkpoint_on(tmp_path):
    config = SftConfig(**TWO, fewer_gpus="accumulate")
    attempt(config, tmp_path / "scratch")
    fitted, job = fit(job_of(config, tmp_path / "scratch"), config, gpus=1)
    job = prepare(job, fitted)
    assert job.checkpoint is not None
    assert job.notes.keys() == {"processes", "layout"}


QUICK = {
    "freeze_vision_tower": False,
    "learning_rate": 3e-3,
    "bf16": False,
    "gradient_checkpointing": False,
    "max_initial_loss_share": None,
}
VALUES = QUICK | {"max_steps": 12, "save_every_steps": 6, "dev_questions": 0, "log_every_steps": 4}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    where = tmp_path_factory.mktemp("sft")
    corpus, reasoning = write_colour_corpus(where / "corpus"), write_reasoning(where / "reasoning")
    out = StageOutput(where / "cpt", where / "scratch")
    base = build_base_model(where, corpus, reasoning)
    run_cpt(CptConfig(max_pixels=784, batch_size_per_process=4, **QUICK), corpus=corpus, base_model=base, out=out)
    return {"reasoning_data": reasoning, "cpt": out.path}


@pytest.fixture(scope="module")
def unbroken(inputs, tmp_path_factory):
    """A fine-tuning in two processes, from beginning to end."""
    where = tmp_path_factory.mktemp("unbroken")
    out = StageOutput(where / "out", where / "scratch")
    run_sft(SftConfig(**VALUES | TWO), **inputs, out=out)
    return where, out


@pytest.mark.parametrize(
    "layout",
    [ONE, pytest.param({"num_processes": 4, "batch_size_per_process": 2}, marks=pytest.mark.slow)],
    ids=["one process", "four processes"],
)
def test_losses_and_weights_are_those_of_an_unbroken_run(inputs, unbroken, tmp_path, layout):
    # Killed after step 6, between two points of the curve.
    earlier = shutil.copytree(unbroken[0] / "scratch", tmp_path / "earlier")
    shutil.rmtree(earlier / "checkpoints" / f"{PREFIX}12")
    out = StageOutput(tmp_path / "out", tmp_path / "scratch")
    run_sft(SftConfig(**VALUES | layout), **inputs, out=out)
    ours, theirs = (read_series(where / "scratch" / "report") for where in (tmp_path, unbroken[0]))
    assert list(ours["loss"]) == list(theirs["loss"]) == [1, 4, 8, 12]
    for name in ("loss", "grad_norm", "learning_rate"):
        assert list(ours[name].values()) == pytest.approx(list(theirs[name].values()), rel=2e-5), name
    ours, theirs = (load_file(where.path / "model" / "model.safetensors") for where in (out, unbroken[1]))
    start = load_file(inputs["cpt"] / "model" / "model.safetensors")
    for name, tensor in theirs.items():
        moved = (tensor - start[name]).abs().max().item()
        # Where the gradient is nothing but rounding, as at the keys' biases, Adam makes whole steps of it.
        if "k_proj.bias" not in name:
            assert (ours[name] - tensor).abs().max().item() <= 1e-3 * moved, name
    assert "num_processes" in out.notes["layout"]
    assert json.loads((tmp_path / "scratch" / "job.json").read_text())["checkpoint"].endswith(f"{PREFIX}6")
