"""What Prometheus reads of a training: real processes, asked over HTTP while they train."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pathoflow.contract.output import Reporter
from pathoflow.errors import Preempted, StageError
from pathoflow.training.checkpoints import MARKER, PREFIX
from pathoflow.training.curves import read_series
from pathoflow.training.diagnostics import NotANumberError
from pathoflow.training.prometheus import COMPLETED_BY, PORT, RUN_ID, Training, TrainingMetrics, serve_metrics
from tests.support.s3_server import free_port
from tests.support.toy_training.attempt import Attempt

LABELS = {"stage": "toy_training", "run_id": "run-7", "model": "net-544"}


@pytest.fixture
def port(monkeypatch) -> int:
    number = free_port()
    monkeypatch.setenv(PORT, str(number))
    monkeypatch.setenv(RUN_ID, "run-7")
    return number


def read(port: int) -> dict[str, float] | None:
    """Everything that is told, by its name without the common prefix; None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            name = sample.name.removeprefix("pathoflow_training_")
            if name != sample.name:
                labels = dict(sample.labels)
                part = labels.pop("part", None)
                assert labels.keys() == LABELS.keys()
                found[f"{name}/{part}" if part else name] = sample.value
    return found


def wait_until(attempt: Attempt, port: int, name: str, least: float) -> dict[str, float]:
    deadline = time.monotonic() + 120
    while (values := read(port) or {}).get(name, -1.0) < least:
        assert attempt.stage.poll() is None, attempt.words()
        assert time.monotonic() < deadline, values
        time.sleep(0.02)
    return values


def training(scratch: Path, **values) -> Training:
    return Training("toy_training", "net-544", scratch, COMPLETED_BY, 5, **values)


def test_a_training_tells_how_it_goes_and_counts_on_after_a_kill(tmp_path, port):
    where, steps = tmp_path / "run", {"max_steps": 120, "save_every_steps": 10, "data_workers": 1}
    began = time.time()
    first = Attempt(where, **steps)
    first.wait_for(f"checkpoints/{PREFIX}10/{MARKER}")
    values = wait_until(first, port, "step", 12)
    assert [listens(first.rank(number), port) for number in (0, 1)] == [True, False], "only the first answers"
    agrees_with_series(values, where)
    assert (values["restarts_total"], values["preemptions_total"], values["not_a_number"]) == (0, 0, 0)
    assert values["planned_steps"] == 120
    assert began < values["start_timestamp_seconds"] < values["progress_timestamp_seconds"] < time.time()
    assert began < values["checkpoint_timestamp_seconds"] < time.time()
    checkpoint = sum(path.stat().st_size for path in (first.checkpoints / f"{PREFIX}10").iterdir())
    assert values["checkpoint_size_bytes"] == pytest.approx(checkpoint, rel=0.1)
    assert values["checkpoint_pause_seconds_total"] > 0
    assert 0 < values["filesystem_avail_bytes"] < values["filesystem_size_bytes"]
    assert 0 < values["step_duration_seconds"] < 10
    first.stage.kill()
    first.end()
    first.forget_start()

    began = time.time()
    second = Attempt(where, **steps)
    assert wait_until(second, port, "start_timestamp_seconds", began)["restarts_total"] == 1
    again = wait_until(second, port, "step", values["step"] + 2)
    agrees_with_series(again, where)
    os.kill(second.rank(1), signal.SIGTERM)
    assert second.end(60) == Preempted.exit_code, second.words()
    assert read(port) is None

    assert json.loads((where / "scratch" / "metrics.json").read_text()) == {"starts": 2, "preemptions": 1}
    count = TrainingMetrics(training(where / "scratch")).collect()
    assert {sample.name: sample.value for family in count for sample in family.samples}.items() >= {
        "pathoflow_training_restarts_total": 2,
        "pathoflow_training_preemptions_total": 1,
    }.items()


def listens(pid: int, port: int) -> bool:
    """Whether a process has the port."""
    found = psutil.Process(pid).net_connections("tcp")
    return any(each.laddr.port == port and each.status == psutil.CONN_LISTEN for each in found)


def agrees_with_series(values: dict[str, float], where: Path) -> None:
    """The curves are those in `series.jsonl`; that of the step which just ended may not be there yet."""
    series = read_series(where / "scratch" / "report")
    step = values["step"]
    at = step if series["loss"].get(step) == values["loss"] else step - 1
    for curve, name in {
        "loss": "loss",
        "learning_rate": "learning_rate",
        "grad_norm": "gradient_norm",
        "samples_per_s": "samples_per_second",
        "checkpoint_share": "checkpoint_ratio",
    }.items():
        assert values[name] == series[curve][at], name
    assert values["memory_peak_bytes"] == series["memory_gib"][at] * 2**30


def test_lost_numbers_are_read_before_the_process_ends(tmp_path, port):
    attempt = Attempt(tmp_path / "run", num_processes=1, poison_at=3)
    wait_until(attempt, port, "not_a_number", 1)
    assert attempt.end(60) == StageError.exit_code
    assert "The loss is nan" in attempt.words()


def test_every_curve_of_a_stage_is_told_under_its_own_name(tmp_path):
    metrics = TrainingMetrics(training(tmp_path, epochs=2.0))
    metrics.on_progress(5, 20, "steps")
    metrics.on_series(5, {"accuracy_reward": 0.5, "format_reward": 0.75, "kl": 0.01, "something_else": 1.0})
    found = {
        (sample.name, sample.labels.get("part")): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }
    assert found["pathoflow_training_reward_part", "accuracy"] == 0.5
    assert found["pathoflow_training_reward_part", "format"] == 0.75
    assert found["pathoflow_training_kl_divergence_nats", None] == 0.01
    assert found["pathoflow_training_epoch", None] == 0.5
    assert not any("something" in name for name, _ in found)
    assert ("pathoflow_training_checkpoint_timestamp_seconds", None) not in found


def test_a_port_that_cannot_be_had_is_told_and_training_goes_on(tmp_path, port, capsys):
    with socket.create_server(("0.0.0.0", port)), serve_metrics(training(tmp_path)):
        Reporter(tmp_path).progress(1, 2, "steps")
    assert f"{PORT}={port} cannot be listened on" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["abc", "70000", "-1"])
def test_a_port_that_is_none_is_told_too(tmp_path, monkeypatch, capsys, value):
    monkeypatch.setenv(PORT, value)
    with serve_metrics(training(tmp_path)):
        pass
    assert "Set a free port between 1 and 65535" in capsys.readouterr().err


def test_nothing_is_kept_or_listened_on_without_a_port(tmp_path, monkeypatch):
    monkeypatch.delenv(PORT, raising=False)
    with serve_metrics(training(tmp_path)):
        assert Reporter.listeners == []
    assert not list(tmp_path.iterdir())


def test_the_port_is_free_again_after_a_training_in_this_process(tmp_path, port):
    for _ in range(2):
        with serve_metrics(training(tmp_path)):
            assert read(port) is not None
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"starts": 2, "preemptions": 0}
    assert read(port) is None


def test_nobody_waits_for_a_reader_that_never_came(tmp_path, port):
    began = time.monotonic()
    with serve_metrics(training(tmp_path)):
        pass
    assert time.monotonic() - began < 1


def test_whoever_has_been_read_stays_until_its_end_was_read(tmp_path, port):
    readings = []
    reader = threading.Timer(1.2, lambda: readings.append(read(port)))
    with serve_metrics(training(tmp_path)):
        assert read(port)["finished"] == 0
        time.sleep(1)
        assert read(port)["finished"] == 0
        reader.start()
    reader.join()
    assert readings[0]["finished"] == 1


def test_whoever_lost_its_numbers_waits_for_the_next_reading(tmp_path, port):
    readings = []
    reader = threading.Timer(1.0, lambda: readings.append(read(port)))
    reader.start()
    with pytest.raises(NotANumberError), serve_metrics(training(tmp_path)):
        raise NotANumberError("nan")
    reader.join()
    assert readings[0]["not_a_number"] == 1


def test_a_step_pays_next_to_nothing(tmp_path):
    metrics = TrainingMetrics(training(tmp_path))
    values = {"loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0, "tokens_per_s": 1.0, "mfu": 0.4}
    costs = []
    for _ in range(5):
        began = time.perf_counter()
        for step in range(2000):
            metrics.on_progress(step, 2000, "steps")
            metrics.on_series(step, values)
        costs.append((time.perf_counter() - began) / 2000)
    # A thousandth of the shortest step worth watching, which takes 20 ms.
    assert min(costs) < 20e-6
