"""What a person sees while a model is trained: figures of each interval, and warnings with advice."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from pathoflow.contract.output import Reporter
from pathoflow.errors import StageError
from pathoflow.training.curves import read_series
from pathoflow.training.reporting import ReportingCallback
from tests.support.toy_training.config import ToyTrainingConfig

ARGS = SimpleNamespace(device=torch.device("cpu"), world_size=1)


@pytest.fixture
def clock(monkeypatch):
    """Time that passes as the test says."""
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr("pathoflow.training.reporting.time.monotonic", lambda: now.s)
    return now


@pytest.fixture(autouse=True)
def many_cores(monkeypatch):
    monkeypatch.setattr("pathoflow.training.reporting.os.cpu_count", lambda: 16)


def watch(tmp_path, **values):
    meter = SimpleNamespace(data_wait_s=0.0, num_tokens=0, num_computed=0, flops=0.0)
    trainer = SimpleNamespace(saving_s=0.0, meter=meter)
    state = SimpleNamespace(
        is_world_process_zero=True, global_step=10, max_steps=110, num_input_tokens_seen=0, log_history=[]
    )
    config = ToyTrainingConfig(peak_tflops=1e-6, **values)
    reporting = ReportingCallback(Reporter(tmp_path), {"loss": "loss", "grad_norm": "grad_norm"}, config, trainer)
    reporting.on_train_begin(ARGS, state, None)
    return reporting, trainer, state


def test_figures_of_each_interval(tmp_path, clock, capsys):
    reporting, trainer, state = watch(tmp_path, data_workers=3)
    for step in (20, 30):
        clock.s += 10.0
        state.global_step = step
        trainer.meter.num_tokens += 8_000
        trainer.meter.num_computed += 10_000
        trainer.meter.data_wait_s += 4.0
        trainer.meter.flops += 2e6
        trainer.saving_s += 0.5
        reporting.on_step_end(ARGS, state, None)
        reporting.on_log(ARGS, state, None, {"loss": 2.0, "grad_norm": 0.5, "learning_rate": 1e-3})
    series = read_series(tmp_path)
    assert series["loss"] == {20: 2.0, 30: 2.0}
    for name, value in {
        "tokens_per_s": 800.0,
        "padding_share": 0.2,
        "data_wait_share": 0.4,
        "mfu": 0.2,
        "checkpoint_share": 0.05,
    }.items():
        assert series[name] == pytest.approx({20: value, 30: value}), name
    assert series["memory_gib"][30] > 0

    state.global_step = 31
    reporting._reporter._last_progress_s = 0.0
    reporting.on_step_end(ARGS, state, None)
    shown = json.loads((tmp_path / "progress.json").read_text())["shown"]
    # 21 steps took 20 s, and 79 are to come.
    assert shown["left_s"] == pytest.approx(79 * 20 / 21, abs=0.1)
    assert (shown["loss"], shown["tok/s"], shown["MFU"]) == (2.0, 800.0, pytest.approx(0.2))
    assert "raise data_workers above 3" in shown["warning"]
    assert capsys.readouterr().err.count("waiting for data") == 1


def test_a_rising_loss_is_warned_of(tmp_path, clock, capsys):
    reporting, _, state = watch(tmp_path)
    state.log_history = [{"loss": loss} for loss in [2.0] * 12 + [5.0] * 4]
    reporting.on_log(ARGS, state, None, {"loss": 5.0})
    assert "the loss rose from 2.00 to 5.00: lower learning_rate" in capsys.readouterr().err


@pytest.mark.parametrize("logs", [{"loss": float("nan")}, {"loss": 1.0, "grad_norm": float("inf")}])
def test_lost_numbers_end_the_training_with_advice(tmp_path, clock, logs):
    reporting, _, state = watch(tmp_path)
    with pytest.raises(StageError, match="Lower learning_rate"):
        reporting.on_log(ARGS, state, None, logs)


@pytest.mark.parametrize(("values", "cores"), [({"cached_samples": 64}, 16), ({"data_workers": 1}, 2)])
def test_nothing_is_advised_that_would_not_help(tmp_path, clock, capsys, monkeypatch, values, cores):
    monkeypatch.setattr("pathoflow.training.reporting.os.cpu_count", lambda: cores)
    reporting, trainer, state = watch(tmp_path, **values)
    clock.s += 10.0
    trainer.meter.num_computed = trainer.meter.num_tokens = 100
    trainer.meter.data_wait_s = 5.0
    reporting.on_log(ARGS, state, None, {"loss": 2.0})
    assert capsys.readouterr().err == ""
    assert read_series(tmp_path)["data_wait_share"] == {10: pytest.approx(0.5)}
