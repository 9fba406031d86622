"""Grafana's dashboard, written from the short description below: `python -m tools.dashboard`.

A row has a title and panels. A panel has a title, a description, a unit and its queries by their legends; `§` in a
query stands for the labels of the runs and stages that the viewer selects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathoflow.contract.code import REPOSITORY
from tools import drift

DASHBOARD = REPOSITORY / "manifests" / "components" / "observability" / "dashboard.json"

_WIDTH = 24
_SELECTED = '{run_id=~"$run_id", stage=~"$stage"}'
_SERIES = "{{stage}} {{run_id}}"
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_PREFIX = "pathoflow_training_"


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: Heads the panel.
        description: Shown when the pointer rests on the title.
        unit: Grafana's name of the unit.
        queries: PromQL by legend; a bare metric name is one of a training, and `§` stands for the selection.
        minimum: Lower end of the axis; None for automatic.
        maximum: Upper end of the axis; None for automatic.
        thresholds: The colours of a single figure and the values from which they hold; none for a curve.
    """

    title: str
    description: str
    unit: str
    queries: dict[str, str]
    minimum: int | None = None
    maximum: int | None = None
    thresholds: dict[str, float | None] = field(default_factory=dict)


def _curve(
    title: str, description: str, unit: str, *metrics: str, minimum: int | None = None, maximum: int | None = None
) -> Panel:
    """Describes curves of a training's metrics; `metric as words` adds words to the legend."""
    queries = {}
    for metric in metrics:
        name, _, words = metric.partition(" as ")
        queries[f"{_SERIES} {words}".rstrip()] = f"{_PREFIX}{name}§"
    return Panel(title, description, unit, queries, minimum, maximum)


def _figure(title: str, description: str, unit: str, query: str, **thresholds: float) -> Panel:
    """Describes a single figure that is green, and takes another colour from a value on."""
    return Panel(title, description, unit, {_SERIES: query}, thresholds={"green": None, **thresholds})


_NEWEST = "max by (run_id, stage) (pathoflow_training_{}§)"

ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        _figure(
            "Done",
            "Share of the planned steps.",
            "percentunit",
            "max by (run_id, stage) (pathoflow_training_step§ / pathoflow_training_planned_steps§)",
        ),
        _figure(
            "Time left",
            "At the mean pace since the process began.",
            "s",
            "max by (run_id, stage) ((pathoflow_training_planned_steps§ - pathoflow_training_step§)"
            " * pathoflow_training_step_duration_seconds§)",
        ),
        _figure(
            "Since the last step",
            "Alarms at ten steps and at least a quarter of an hour.",
            "s",
            "time() - " + _NEWEST.format("progress_timestamp_seconds"),
            orange=300,
            red=900,
        ),
        _figure(
            "Age of the newest checkpoint",
            "What would be lost if the pod died now.",
            "s",
            "time() - " + _NEWEST.format("checkpoint_timestamp_seconds"),
            orange=3600,
            red=7200,
        ),
        _figure("Restarts", "Since the run began.", "none", _NEWEST.format("restarts_total"), orange=1, red=3),
        _figure(
            "Lost numbers",
            "1 once loss or gradients were NaN or infinite.",
            "none",
            "max by (run_id, stage) (max_over_time(pathoflow_training_not_a_number§[30m]))",
            red=1,
        ),
    ),
    "Training": (
        Panel(
            "Loss",
            "Mean over the steps since it was last logged.",
            "none",
            {
                _SERIES: "pathoflow_training_loss§",
                f"before the first step, {_SERIES}": "pathoflow_training_initial_loss_nats§",
            },
        ),
        _curve(
            "Dev accuracy",
            "Share of the dev questions answered rightly, and whose thinking ends in the answer.",
            "percentunit",
            "dev_accuracy_ratio as accuracy",
            "dev_consistency_ratio as consistency",
            minimum=0,
            maximum=1,
        ),
        _curve("Learning rate", "Of the next step.", "none", "learning_rate"),
        _curve("Gradient norm", "Before clipping.", "none", "gradient_norm"),
        _curve("Step", "Falls back to the last checkpoint after a restart.", "none", "step"),
        _curve("Epoch", "Passes over the data.", "none", "epoch"),
        _curve(
            "Tokens per second",
            "Learned by all processes together; fillers do not count.",
            "none",
            "tokens_per_second",
            minimum=0,
        ),
        _curve("Samples per second", "In RL: completions.", "none", "samples_per_second", minimum=0),
        _curve(
            "MFU",
            "Model FLOPs utilisation, where the peak of the device is known.",
            "percentunit",
            "mfu_ratio",
            minimum=0,
        ),
        _curve(
            "Where the time goes",
            "Shares that are not learning.",
            "percentunit",
            "data_wait_ratio as waits for data",
            "checkpoint_ratio as checkpoints",
            "padding_ratio as fillers",
            minimum=0,
            maximum=1,
        ),
        _curve(
            "Step duration",
            "Mean since the process began, with all that comes between.",
            "s",
            "step_duration_seconds",
            minimum=0,
        ),
        Panel(
            "Pause for checkpoints",
            "Seconds per second for which checkpoints held training up.",
            "percentunit",
            {_SERIES: "rate(pathoflow_training_checkpoint_pause_seconds_total§[10m])"},
            minimum=0,
        ),
    ),
    "Reinforcement learning": (
        _curve("Reward", "Mean of a completion.", "none", "reward"),
        Panel(
            "Parts of the reward",
            "Their means.",
            "none",
            {f"{{{{part}}}} {_SERIES}": "pathoflow_training_reward_part§"},
        ),
        _curve(
            "Thinking ends in the answer",
            "Share of the completions.",
            "percentunit",
            "consistency_ratio",
            minimum=0,
            maximum=1,
        ),
        _curve("Completion length", "Mean, in tokens.", "none", "completion_length_tokens", minimum=0),
        _curve(
            "Cut off",
            "Share of completions that reached the longest length.",
            "percentunit",
            "completion_truncated_ratio",
            minimum=0,
            maximum=1,
        ),
        _curve(
            "Groups without a signal",
            "Share of groups whose completions all got one reward.",
            "percentunit",
            "group_no_signal_ratio",
            minimum=0,
            maximum=1,
        ),
        _curve(
            "Clipped", "Share of tokens whose probability ratio was clipped.", "percentunit", "clip_ratio", minimum=0
        ),
        _curve("Entropy", "Of the policy's next token, in nats.", "none", "entropy_nats"),
        _curve("Divergence from the reference", "In nats; only with a KL term.", "none", "kl_divergence_nats"),
    ),
    "System": (
        _curve("Peak memory", "The GPU's if there is one, of process 0.", "bytes", "memory_peak_bytes", minimum=0),
        _curve(
            "Free on the volume with checkpoints",
            "And what the newest checkpoint takes: the next one needs as much.",
            "bytes",
            "filesystem_avail_bytes as free",
            "checkpoint_size_bytes as checkpoint",
            minimum=0,
        ),
        Panel(
            "Restarts and preemptions",
            "Kept over restarts.",
            "none",
            {
                f"{_SERIES} restarts": _NEWEST.format("restarts_total"),
                f"{_SERIES} preemptions": _NEWEST.format("preemptions_total"),
            },
            minimum=0,
        ),
        Panel(
            "Process 0: CPU",
            "Cores in use.",
            "none",
            {"{{pod}}": 'rate(process_cpu_seconds_total{job=~".*pathoflow-training"}[5m])'},
            minimum=0,
        ),
        Panel(
            "PostgreSQL: free on its volume",
            "Share of its size.",
            "percentunit",
            {
                "{{persistentvolumeclaim}}": "kubelet_volume_stats_available_bytes"
                '{persistentvolumeclaim=~".*pathoflow-postgres.*"} / kubelet_volume_stats_capacity_bytes'
                '{persistentvolumeclaim=~".*pathoflow-postgres.*"}'
            },
            minimum=0,
            maximum=1,
        ),
        Panel(
            "Services ready",
            "Replicas.",
            "none",
            {
                "MLflow": 'kube_deployment_status_replicas_available{deployment="pathoflow-mlflow"}',
                "PostgreSQL": 'kube_statefulset_status_replicas_ready{statefulset="pathoflow-postgres"}',
            },
            minimum=0,
        ),
    ),
}


def dashboard() -> dict[Path, str]:
    """Returns the dashboard's file with its content, one panel a line."""
    panels = ",\n".join(f"    {json.dumps(panel)}" for panel in _placed())
    text = json.dumps(_FRAME | {"panels": ["PANELS"]}, indent=2)
    return {DASHBOARD: text.replace('    "PANELS"', panels) + "\n"}


def _placed() -> Iterator[dict[str, Any]]:
    """Yields rows and panels with their places: six single figures beside each other, or three curves."""
    number = y = 0
    for title, panels in ROWS.items():
        number += 1
        place = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}
        y, x = y + 1, 0
        width, height = (4, 4) if panels[0].thresholds else (8, 7)
        for panel in panels:
            if x == _WIDTH:
                x, y = 0, y + height
            number += 1
            yield _panel(number, panel) | {"gridPos": {"h": height, "w": width, "x": x, "y": y}}
            x += width
        y += height


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    options: dict[str, Any]
    if panel.thresholds:
        steps = [{"color": color, "value": value} for color, value in panel.thresholds.items()]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        options = {"colorMode": "value", "graphMode": "none", "reduceOptions": reduced, "textMode": "auto"}
    else:
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 0, "showPoints": "auto", "spanNulls": False}
        defaults |= {key: end for key, end in (("min", panel.minimum), ("max", panel.maximum)) if end is not None}
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
        options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "none"}}
    return {
        "id": number,
        "type": "stat" if panel.thresholds else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "datasource": _DATASOURCE,
                "editorMode": "code",
                "expr": query.replace("§", _SELECTED),
                "legendFormat": legend,
                "range": True,
                "refId": chr(ord("A") + place),
            }
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _variable(name: str, label: str, selection: str = "") -> dict[str, Any]:
    """Describes a drop-down list of the values that a label of the trainings has."""
    query = f"label_values({_PREFIX}start_timestamp_seconds{selection}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


_FRAME: dict[str, Any] = {
    "uid": "pathoflow",
    "title": "pathoflow",
    "description": "How trainings and the services around them fare.",
    "tags": ["pathoflow"],
    "editable": True,
    "graphTooltip": 1,
    "refresh": "30s",
    "schemaVersion": 39,
    "version": 1,
    "timezone": "browser",
    "time": {"from": "now-6h", "to": "now"},
    "annotations": {"list": []},
    "links": [],
    "templating": {
        "list": [
            {
                "name": "datasource",
                "label": "Prometheus",
                "type": "datasource",
                "query": "prometheus",
                "refresh": 1,
                "hide": 0,
                "current": {},
            },
            _variable("run_id", "Run"),
            _variable("stage", "Stage", '{run_id=~"$run_id"}'),
        ]
    },
}


if __name__ == "__main__":
    drift.main(dashboard(), "python -m tools.dashboard")
