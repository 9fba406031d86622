"""The dev questions are asked when they are due; training stops at the target, and the best model is kept."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from pathoflow.inference.protocol import Request
from pathoflow.inference.transformers_engine import RequestEncoder
from pathoflow.modeling.encoding import Encoder
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import text_message
from pathoflow.training import evaluation
from pathoflow.training.evaluation import EvalCallback

REQUESTS = [Request([text_message("user", text)]) for text in ("red", "a yellow lesion", "blue")]
ARGUMENTS = SimpleNamespace(process_index=0, world_size=1, save_steps=4)


@pytest.fixture(scope="module")
def prompts():
    tokenizer = train_tokenizer(["A yellow lesion: lipoma.", "red blue"] * 4, 340)
    return RequestEncoder(Encoder(new_processor(tokenizer, max_pixels=784)), num_cached=10)


class Echo(torch.nn.Module):
    """Stands in for a model: it repeats a prompt."""

    device = torch.device("cpu")

    def generate(self, input_ids, **_):
        return torch.cat([input_ids, input_ids], dim=1)


class Curves:
    """Stands in for a reporter."""

    def __init__(self):
        self.points = {}

    def series(self, step, **values):
        self.points[step] = values


def trained(prompts, accuracies, state=None, curves=None, **options):
    """Has the callback see 6 steps, at which the model scores so; returns the state, curves and where it stopped."""
    state = state or TrainerState(max_steps=6, is_world_process_zero=True, log_history=[])
    left, asked = iter(accuracies), []

    def score(responses):
        asked.append(list(responses))
        return {"dev_accuracy": next(left), "more": 1.0}

    curves = curves or Curves()
    trainer = options.pop("trainer", None)
    callback = EvalCallback(REQUESTS, score, prompts, curves, every_steps=2, batch_size=2, max_new_tokens=4, **options)
    callback.trainer = trainer
    model, stopped = Echo(), None
    callback.on_train_begin(ARGUMENTS, state, TrainerControl(), model=model)
    for step in range(state.global_step + 1, state.max_steps + 1):
        callback.on_step_begin(ARGUMENTS, state, TrainerControl(), model=model)
        state.global_step = step
        if callback.on_step_end(ARGUMENTS, state, TrainerControl(), model=model).should_training_stop:
            stopped = step
            break
    for responses in asked:
        assert ["red" in responses[0], "lesion" in responses[1], "blue" in responses[2]] == [True] * 3
    return state, curves.points, stopped


def test_it_measures_every_few_steps_and_after_the_last(prompts):
    state, points, stopped = trained(prompts, [0.1, 0.2, 0.3])
    assert stopped is None
    assert points == {step: {"dev_accuracy": step / 20, "more": 1.0} for step in (2, 4, 6)}
    assert [entry["step"] for entry in state.log_history] == [2, 4, 6]


def test_the_model_at_the_start_is_measured_but_not_again_after_a_restart(prompts):
    state, points, _ = trained(prompts, [0.0, 0.1, 0.2, 0.3], at_start=True)
    assert list(points) == [0, 2, 4, 6]
    state.global_step, state.max_steps = 6, 8
    _, points, _ = trained(prompts, [0.4], state, at_start=True)
    assert list(points) == [8]


@pytest.mark.parametrize(("target", "step"), [(0.25, 4), (0.3, 4), (0.31, 6), (0.5, None), (None, None)])
def test_training_ends_at_the_first_measurement_that_reaches_the_target(prompts, target, step):
    _, points, stopped = trained(prompts, [0.2, 0.3, 0.4], stop_at=target)
    assert stopped == step
    assert max(points) == (step or 6)


def test_the_best_model_is_kept_and_an_earlier_one_until_a_checkpoint_was_written(prompts, tmp_path, monkeypatch):
    folder, seen = tmp_path / "kept", []

    def save(trainer, processor, directory):
        directory.mkdir(parents=True)
        (directory / "weights").write_text(processor)

    monkeypatch.setattr(evaluation, "save_trained", save)
    trainer = SimpleNamespace(processing_class="processor", is_world_process_zero=lambda: True)

    class Watching(Curves):
        def series(self, step, **values):
            super().series(step, **values)
            seen.append((step, sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []))

    options = {"at_start": True, "keep_best_in": folder, "trainer": trainer}
    trained(prompts, [0.3, 0.5, 0.5, 0.4], curves=Watching(), **options)
    # The model at the start is there anyway; of equal ones the later is kept; after step 4 a checkpoint was written.
    assert seen == [(0, []), (2, []), (4, ["step-2"]), (6, ["step-4"])]
    assert [path.name for path in folder.iterdir()] == ["step-4"]
    assert (folder / "step-4" / "weights").read_text() == "processor"


def test_the_model_is_unwrapped_for_as_long_as_it_generates(prompts):
    callback = EvalCallback(
        REQUESTS, lambda _: {"dev_accuracy": 1.0}, prompts, Curves(), every_steps=1, batch_size=2, max_new_tokens=4
    )
    found = []

    @contextmanager
    def unwrap(wrapped):
        found.append(wrapped)
        yield Echo()
        found.append("wrapped again")

    callback.unwrap = unwrap
    state = TrainerState(max_steps=6, global_step=3, is_world_process_zero=True, log_history=[])
    callback.on_step_end(ARGUMENTS, state, TrainerControl(), model="wrapped")
    assert found == ["wrapped", "wrapped again"]
