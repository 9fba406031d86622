"""Alert rules, dashboard and monitors: true to the figures that exist, and to Prometheus' own judgement."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from pathoflow.training.prometheus import COMPLETED_BY, FIGURES, Training, TrainingMetrics
from tests.manifests.rendering import render

ROOT = Path(__file__).parents[4]
COMPONENT = ROOT / "manifests" / "components" / "observability"
RULE_TESTS = Path(__file__).with_name("alerts.test.yaml")

# What others expose, by whom.
FOREIGN = {
    "kube_deployment_status_replicas_available": "kube-state-metrics",
    "kube_statefulset_status_replicas_ready": "kube-state-metrics",
    "kubelet_volume_stats_available_bytes": "kubelet",
    "kubelet_volume_stats_capacity_bytes": "kubelet",
    "process_cpu_seconds_total": "prometheus_client's ProcessCollector",
}
_NO_METRICS = {"and", "or", "unless", "bool", "by", "on", "ignoring", "group_left", "group_right", "without", "offset"}


def rules() -> dict:
    return yaml.safe_load((COMPONENT / "alerts.yaml").read_text())["spec"]


def alerts() -> list[dict]:
    return [rule for group in rules()["groups"] for rule in group["rules"]]


def dashboard() -> dict:
    return json.loads((COMPONENT / "dashboard.json").read_text())


def panels() -> list[dict]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def metrics_in(expression: str) -> set[str]:
    """The names of the metrics that an expression asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on|ignoring|without)\s*\([^)]*\)", " ", expression)
    names = set(re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", bare))
    return names - _NO_METRICS


@pytest.fixture(scope="module")
def exposed_names(tmp_path_factory) -> set[str]:
    """Everything that a training may tell."""
    scratch = tmp_path_factory.mktemp("scratch")
    marker = scratch / COMPLETED_BY.replace("*", "5")
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    metrics = TrainingMetrics(Training("rl", "m", scratch, COMPLETED_BY, 5, epochs=1.0, saving_s=lambda: 0.0))
    metrics.on_progress(5, 20, "steps")
    metrics.on_progress(6, 20, "steps")
    metrics.on_series(6, dict.fromkeys(FIGURES, 1.0))
    return {sample.name for family in metrics.collect() for sample in family.samples}


def test_metrics_are_found_in_expressions():
    expression = 'max by (run_id) (last_over_time(a_total{b="c"}[1h])) unless on (d) e == 1 or time() - clamp_min(f, 9)'
    assert metrics_in(expression) == {"a_total", "e", "f"}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alerts_ask_for_what_exists(alert, exposed_names):
    assert metrics_in(alert["expr"]) <= exposed_names | FOREIGN.keys()


def test_panels_ask_for_what_exists_and_show_all_of_it(exposed_names):
    asked = {name for panel in panels() for target in panel["targets"] for name in metrics_in(target["expr"])}
    assert asked <= exposed_names | FOREIGN.keys()
    shown_by_others = {"start_timestamp_seconds", "finished", "checkpoint_interval_steps", "filesystem_size_bytes"}
    assert exposed_names - asked == {f"pathoflow_training_{name}" for name in shown_by_others}


def test_names_follow_the_conventions_of_prometheus(exposed_names):
    units = ("_seconds", "_bytes", "_ratio", "_total", "_tokens", "_nats", "_steps", "_per_second")
    bare = {"loss", "learning_rate", "gradient_norm", "reward", "reward_part", "step", "epoch"}
    for name in exposed_names:
        assert re.fullmatch(r"pathoflow_training_[a-z_]+", name)
        flag = name.endswith(("_not_a_number", "_finished"))
        assert flag or name.endswith(units) or name.removeprefix("pathoflow_training_") in bare, name


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alerts_say_how_bad_it_is_and_where_to_read_on(alert):
    assert alert["labels"]["severity"] in ("critical", "warning")
    annotations = alert["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = annotations["runbook_url"].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}
    assert anchor == alert["alert"].lower()


def test_the_runbook_has_no_alert_that_does_not_exist():
    page = (ROOT / "docs" / "runbooks" / "alerts.md").read_text()
    assert re.findall(r"^## (Pathoflow\w+)$", page, re.MULTILINE) == [alert["alert"] for alert in alerts()]


def test_every_alert_is_tested_both_ways():
    cases = [case for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


def test_prometheus_accepts_the_rules_and_they_fire_when_they_should(tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    shutil.copy(RULE_TESTS, tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", RULE_TESTS.name]):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_whole():
    made = dashboard()
    everything = made["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            if "pathoflow_training" in target["expr"]:
                assert 'run_id=~"$run_id", stage=~"$stage"' in target["expr"]
    assert [variable["name"] for variable in made["templating"]["list"]] == ["datasource", "run_id", "stage"]


def test_no_panel_lies_on_another():
    def cells(panel: dict) -> Iterator[tuple[int, int]]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                yield x, y

    for one, other in combinations(dashboard()["panels"], 2):
        assert not set(cells(one)) & set(cells(other)), (one["title"], other["title"])


OVERLAY = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: ml
components: [../component]
"""


def test_the_component_renders_and_hands_grafana_the_dashboard(tmp_path):
    shutil.copytree(COMPONENT, tmp_path / "component")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(OVERLAY)
    made = {(thing["kind"], thing["metadata"]["name"]): thing for thing in render(overlay)}
    assert made.keys() == {
        ("ConfigMap", "pathoflow-dashboard"),
        ("PodMonitor", "pathoflow-training"),
        ("PrometheusRule", "pathoflow"),
    }
    assert {thing["metadata"]["namespace"] for thing in made.values()} == {"ml"}
    shown = made["ConfigMap", "pathoflow-dashboard"]
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(shown["data"]["pathoflow.json"]) == dashboard()
