"""Fine-tuning on a few patches: what is learned, when it stops, and what it says of that."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from components.training.cpt.config import CptConfig
from components.training.cpt.stage import run as run_cpt
from components.training.sft import stage
from components.training.sft.config import SftConfig
from components.training.sft.stage import run
from pathoflow.data.schemas import REASONING, ShardWriter, read_rows
from pathoflow.errors import InputError, Standstill
from pathoflow.training.curves import read_series
from pathoflow.training.launch import launch_workers
from tests.support.base_models import build_base_model
from tests.support.conversations import write_colour_corpus, write_reasoning
from tests.support.pairs import contents, new_output

QUICK = {
    "freeze_vision_tower": False,
    "learning_rate": 3e-3,
    "batch_size_per_process": 4,
    "bf16": False,
    "gradient_checkpointing": False,
    "log_every_steps": 5,
}
VALUES = QUICK | {
    # A model of six steps on captions knows no conversations.
    "max_initial_loss_share": None,
    "answer_weight": 5.0,
    "dev_questions": 8,
    "dev_every_steps": 10,
    "dev_batch_size": 4,
    "max_response_tokens": 8,
    "cached_samples": 64,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    where = tmp_path_factory.mktemp("sft")
    corpus, reasoning = write_colour_corpus(where / "corpus"), write_reasoning(where / "reasoning")
    out = new_output(where / "cpt")
    base = build_base_model(where, corpus, reasoning)
    run_cpt(CptConfig(max_pixels=784, **QUICK), corpus=corpus, base_model=base, out=out)
    return {"reasoning_data": reasoning, "cpt": out.path}


def test_two_processes_learn_and_give_the_same_bytes_again_with_data_workers(inputs, tmp_path):
    values = VALUES | {"max_steps": 20, "num_processes": 2}
    first, second = (new_output(tmp_path / name) for name in ("first", "second"))
    run(SftConfig(**values), **inputs, out=first)
    run(SftConfig(**values | {"cached_samples": 0, "data_workers": 1}), **inputs, out=second)
    assert contents(first.path) == contents(second.path)
    assert first.metrics == second.metrics
    curves = read_series(first.directory)
    losses = list(curves["loss"].values())
    assert losses[-1] < losses[0]
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_s", "padding_share", "memory_gib"} <= set(curves)
    assert "dev_accuracy" in curves
    assert list(curves["dev_accuracy"]) == [10, 20]
    assert first.notes["stop_rule"] == "trained to the end"
    assert (first.num_in, first.num_out) == (32, 32)


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.timeout(300)
def test_dev_questions_that_processes_cannot_share_evenly_are_examined_where_weights_are_spread(inputs, tmp_path):
    """Process 0 has 11 of 21 questions and answers them in two batches; process 1 has 10."""
    reasoning = write_reasoning(tmp_path / "reasoning", num_dev=21)
    values = {"dev_questions": 21, "dev_batch_size": 10, "dev_every_steps": 1, "max_steps": 2, "num_processes": 2}
    out = new_output(tmp_path / "out")
    config = SftConfig(**VALUES | values | {"deepspeed_stage": 3})
    run(config, reasoning_data=reasoning, cpt=inputs["cpt"], out=out)
    measured = read_series(out.directory)["dev_accuracy"]
    assert list(measured) == [1, 2]
    assert all((accuracy * 21) % 1 == pytest.approx(0, abs=1e-9) for accuracy in measured.values())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.timeout(300)
def test_processes_that_call_the_model_unequally_often_are_ended_by_the_watchdog(inputs, tmp_path, monkeypatch):
    """What the test above would do without a common count of rounds."""
    uneven = "tests.components.training.sft.uneven"
    monkeypatch.setattr(stage, "launch_workers", lambda _, *job: launch_workers(uneven, *job))
    reasoning = write_reasoning(tmp_path / "reasoning", num_dev=21)
    values = {"dev_questions": 21, "dev_batch_size": 10, "dev_every_steps": 1, "max_steps": 2, "num_processes": 2}
    config = SftConfig(**VALUES | values | {"deepspeed_stage": 3, "collective_timeout_s": 20})
    with pytest.raises(Standstill) as caught:
        run(config, reasoning_data=reasoning, cpt=inputs["cpt"], out=new_output(tmp_path / "out"))
    assert "(generate), in torch/distributed" in str(caught.value), "the process without questions left"
    assert "pathoflow/inference/transformers_engine.py" in str(caught.value)
    assert "deepspeed/runtime/zero/partition_parameters.py" in str(caught.value), "the process that needs weights"


def test_training_stops_at_the_dev_accuracy_asked_for(inputs, tmp_path):
    # A hundred steps would be trained without the rule; a model that answers at all gets one of eight right.
    config = SftConfig(**VALUES | {"max_response_tokens": 24}, max_steps=400, stop_at_dev_accuracy=0.125)
    out = new_output(tmp_path)
    run(config, **inputs, out=out)
    assert out.metrics["num_steps"] < 400
    assert out.metrics["dev_accuracy"] >= 0.125
    assert out.notes["stop_rule"].startswith(f"stopped at step {out.metrics['num_steps']:.0f}")


def test_conversations_without_response_or_image_are_quarantined(inputs, tmp_path):
    row = next(read_rows(inputs["reasoning_data"] / "train"))
    with ShardWriter(tmp_path / "reasoning" / "train", REASONING) as writer:
        writer.write(row | {"messages": row["messages"][:1]})
        writer.write(row | {"images": []})
    out = new_output(tmp_path)
    with pytest.raises(InputError, match="no conversation that can be used"):
        run(SftConfig(**VALUES), reasoning_data=tmp_path / "reasoning", cpt=inputs["cpt"], out=out)
    assert out.quarantined == {"no_response": 1, "image_count": 1}
