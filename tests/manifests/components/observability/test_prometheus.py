"""A real Prometheus that finds a real training as in a cluster, reads it, and judges it by the shipped rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pathoflow.training.curves import read_series
from pathoflow.training.prometheus import PORT, RUN_ID
from tests.manifests.components.observability.test_observability import COMPONENT, dashboard, panels, rules
from tests.support.s3_server import free_port
from tests.support.toy_training.attempt import Attempt

# Pods as Kubernetes describes them to Prometheus: those that answer on the port, and those that must be left alone.
PODS = {
    "task": {"container_name": "main"},
    "first-of-trainjob": {"container_name": "node", "label_batch_kubernetes_io_job_completion_index": "0"},
    "second-of-trainjob": {"container_name": "node", "label_batch_kubernetes_io_job_completion_index": "1"},
    "argo-executor": {"container_name": "wait"},
}
NOT_OF_THE_TOY = {"MFU", "Epoch", "Dev accuracy", "Tokens per second"}
"""Panels on training that have nothing to show of it: it has no tokens, no epochs and no dev questions."""


def prometheus_config(port: int, folder: Path) -> str:
    """The PodMonitor's own relabelling over made-up pods, all of them this machine."""
    monitor = yaml.safe_load((COMPONENT / "monitor.yaml").read_text())
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    relabelling = [
        {re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key): value for key, value in step.items()}
        for step in endpoint["relabelings"]
    ]
    for step in relabelling:
        step["replacement"] = step.get("replacement", "$1").replace("9464", str(port))
    targets = [
        {
            "targets": [f"{name}.invalid"],
            "labels": {"namespace": "ml", "pod": name, "__meta_kubernetes_pod_ip": "127.0.0.1"}
            | {f"__meta_kubernetes_pod_{key}": value for key, value in labels.items()},
        }
        for name, labels in PODS.items()
    ]
    job = {"job_name": "ml/pathoflow-training", "static_configs": targets, "relabel_configs": relabelling}
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules()))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return str(folder / "prometheus.yml")


class Prometheus:
    """Asks a Prometheus on this machine."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def ask(self, path: str, **parameters: Any) -> Any:
        with urllib.request.urlopen(f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def until(self, condition: Callable[[], Any], longest_s: float = 90) -> Any:
        deadline = time.monotonic() + longest_s
        while True:
            try:
                if found := condition():
                    return found
            except OSError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.fixture
def training_port(monkeypatch) -> int:
    number = free_port()
    monkeypatch.setenv(PORT, str(number))
    monkeypatch.setenv(RUN_ID, "run-7")
    return number


@pytest.fixture
def prometheus(tmp_path, training_port):
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (apt-get install prometheus)")
    folder, port = tmp_path / "prometheus", free_port()
    folder.mkdir()
    command = ["prometheus", f"--config.file={prometheus_config(training_port, folder)}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        yield Prometheus(port)
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.mark.slow
def test_prometheus_reads_a_training_and_hears_of_its_end(tmp_path, prometheus):
    attempt = Attempt(tmp_path / "run", poison_at=60, max_steps=200, delay_s=0.02)
    prometheus.until(lambda: prometheus.ask("query", query="pathoflow_training_step > 20")["result"])
    found = prometheus.ask("targets")
    assert sorted(target["labels"]["pod"] for target in found["activeTargets"]) == ["first-of-trainjob", "task"]
    assert all(target["health"] == "up" for target in found["activeTargets"])
    assert len(found["droppedTargets"]) == 2
    empty = [panel["title"] for panel in training_panels() if not answers(prometheus, panel)]
    assert set(empty) == NOT_OF_THE_TOY
    # The training stays until this was read.
    fired = prometheus.until(lambda: prometheus.ask("alerts")["alerts"])
    assert {(alert["labels"]["alertname"], alert["state"]) for alert in fired} == {
        ("PathoflowTrainingNotANumber", "firing")
    }
    assert {alert["labels"]["run_id"] for alert in fired} == {"run-7"}
    assert attempt.end(90) == 7

    series = read_series(attempt.where / "scratch" / "report")
    read = prometheus.ask("query", query="pathoflow_training_loss[5m]")["result"]
    assert read
    for one in read:
        assert {float(value) for _, value in one["values"]} <= set(series["loss"].values())
    every_rule = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in every_rule} == {"ok"}, [rule.get("lastError") for rule in every_rule]
    for panel in panels():
        answers(prometheus, panel)


def training_panels() -> list[dict[str, Any]]:
    """The panels of the first two rows, which every training fills."""
    made = dashboard()["panels"]
    rows = [number for number, panel in enumerate(made) if panel["type"] == "row"]
    assert made[rows[2]]["title"] == "Reinforcement learning"
    return [panel for panel in made[: rows[2]] if panel["type"] != "row"]


def answers(prometheus: Prometheus, panel: dict[str, Any]) -> bool:
    """Whether one of a panel's expressions finds anything; Prometheus refuses those that are none."""
    expressions = [target["expr"].replace("$run_id", ".*").replace("$stage", ".*") for target in panel["targets"]]
    found = [prometheus.ask("query", query=expression)["result"] for expression in expressions]
    return any(found)
