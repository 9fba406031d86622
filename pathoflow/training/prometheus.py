"""Serves a training's metrics to Prometheus from its first process.

Figures are recorded as the stage's reporters write them and rendered when Prometheus scrapes, so that a step costs a
few assignments. Nothing listens unless `PATHOFLOW_METRICS_PORT` is set.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pathoflow.contract.output import Reporter
from pathoflow.errors import Preempted
from pathoflow.system.files import write_atomically
from pathoflow.training.checkpoints import MARKER, PREFIX
from pathoflow.training.diagnostics import NotANumberError

PORT = "PATHOFLOW_METRICS_PORT"
"""The environment variable with the port to listen on."""
RUN_ID = "PATHOFLOW_RUN_ID"
COMPLETED_BY = f"checkpoints/{PREFIX}*/{MARKER}"
"""The files that complete a Trainer's checkpoints, below its scratch."""

_HISTORY_FILE = "metrics.json"
_NAMESPACE = "pathoflow_training_"
_LABELS = ("stage", "run_id", "model")
# Prometheus asks once a minute by default.
_LAST_READING_S = 60.0
_ANSWERED_S = 0.5


class Figure(NamedTuple):
    """Metric of a curve: its name in Prometheus, its meaning, its label `part` if any, and its unit in base units."""

    name: str
    meaning: str
    part: str | None = None
    factor: float = 1.0


_REWARD_PART = "Mean of one part of the reward."
FIGURES = {
    "loss": Figure("loss", "Training loss, a mean over the steps since it was last logged."),
    "initial_loss": Figure("initial_loss_nats", "Loss before the first step, see max_initial_loss_share."),
    "learning_rate": Figure("learning_rate", "Learning rate of the next step."),
    "grad_norm": Figure("gradient_norm", "Norm of the gradients before clipping."),
    "tokens_per_s": Figure("tokens_per_second", "Tokens learned per second, by all processes together."),
    "samples_per_s": Figure("samples_per_second", "Samples (in RL: completions) per second, by all processes."),
    "mfu": Figure("mfu_ratio", "Model FLOPs utilisation, where the peak of the device is known."),
    "data_wait_share": Figure("data_wait_ratio", "Share of the time spent waiting for data."),
    "padding_share": Figure("padding_ratio", "Share of the computed tokens that are fillers."),
    "checkpoint_share": Figure("checkpoint_ratio", "Share of the time for which a checkpoint held training up."),
    "memory_gib": Figure("memory_peak_bytes", "Most memory held so far: the GPU's if there is one.", factor=2.0**30),
    "dev_accuracy": Figure("dev_accuracy_ratio", "Share of the dev questions answered rightly."),
    "dev_think_answer_consistency": Figure(
        "dev_consistency_ratio", "Share of the dev answers whose thinking ends in the answer."
    ),
    "reward": Figure("reward", "Mean reward of a completion."),
    "format_reward": Figure("reward_part", _REWARD_PART, "format"),
    "accuracy_reward": Figure("reward_part", _REWARD_PART, "accuracy"),
    "length_reward": Figure("reward_part", _REWARD_PART, "length"),
    "overlong_penalty": Figure("reward_part", _REWARD_PART, "overlong"),
    "think_answer_consistency": Figure("consistency_ratio", "Share of completions whose thinking ends in the answer."),
    "response_length_tokens": Figure("completion_length_tokens", "Mean length of a completion."),
    "cut_off_share": Figure("completion_truncated_ratio", "Share of completions cut off at the longest length."),
    "zero_variance_share": Figure("group_no_signal_ratio", "Share of groups whose completions all got one reward."),
    "clip_fraction": Figure("clip_ratio", "Share of tokens whose probability ratio was clipped."),
    "entropy": Figure("entropy_nats", "Mean entropy of the policy's next token."),
    "kl": Figure("kl_divergence_nats", "Mean divergence of the policy from the reference."),
}
"""The curves of the stages by their names."""


@dataclass(frozen=True)
class Training:
    """Description of a training for its metrics.

    Attributes:
        stage: Name of the stage.
        model: Kind and size of the model.
        scratch: Directory that survives a kill; checkpoints lie on its volume.
        completed_by: Pattern of the files, below the scratch, whose appearance completes a checkpoint.
        checkpoint_every_steps: Steps between two of them.
        epochs: Passes over the data in all the steps; None if that is not known.
        saving_s: Tells for how long checkpoints have held training up; None if nobody counts.
    """

    stage: str
    model: str
    scratch: Path
    completed_by: str
    checkpoint_every_steps: int
    epochs: float | None = None
    saving_s: Callable[[], float] | None = None


def model_label(model: Any) -> str:
    """Returns a model's type and its number of weights in all processes together.

    >>> from types import SimpleNamespace
    >>> weights = [SimpleNamespace(numel=lambda: 3_754_622_976)]
    >>> model_label(SimpleNamespace(config=SimpleNamespace(model_type="clip"), parameters=lambda: weights))
    'clip-3.8B'
    """
    kind = getattr(getattr(model, "config", None), "model_type", None) or type(model).__name__.lower()
    # DeepSpeed's ZeRO-3 leaves a process empty weights, and notes their size.
    number = float(sum(getattr(weight, "ds_numel", weight.numel()) for weight in model.parameters()))
    units = ["", "K", "M", "B"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{kind}-{number:.{1 if number < 10 else 0}f}{units[0]}"


@contextmanager
def serve_metrics(training: Training, *, until_exit: bool = False) -> Iterator[None]:
    """Serves metrics while the block trains, if `PATHOFLOW_METRICS_PORT` is set.

    A port that is taken is reported and has no other effect. The process stays until Prometheus has scraped how the
    training ended: for twice the time between two scrapes if there were any, and for up to a minute after loss or
    gradients became NaN.

    Args:
        training: Description of the training.
        until_exit: Go on to answer after the block: for a process that ends soon after it.
    """
    port = os.environ.get(PORT)
    if not port:
        yield
        return
    metrics = TrainingMetrics(training)
    server = _serve(metrics, port)
    Reporter.listeners.append(metrics)
    try:
        yield
        metrics.finish()
    except NotANumberError:
        metrics.lose(_LAST_READING_S if server else 0.0)
        raise
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, KeyboardInterrupt) or stop.code == Preempted.exit_code:
            metrics.preempt()
        raise
    finally:
        Reporter.listeners.remove(metrics)
        if server and not until_exit:
            server()


class TrainingMetrics(Collector):
    """Collects a training's metrics in this process for `prometheus_client`."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._label_values = [training.stage, os.environ.get(RUN_ID, ""), training.model]
        self._values: dict[str, float] = {}
        self._started = self._progress_at = time.time()
        self._first: tuple[int, float] | None = None
        self._last = (0, 0.0)
        self._planned = 0
        self._finished = self._lost = False
        self._read = threading.Event()
        self._read_at: float | None = None
        self._interval_s = 0.0
        self._size_of: tuple[Path, int] | None = None
        history = training.scratch / _HISTORY_FILE
        self._history = json.loads(history.read_bytes()) if history.is_file() else {"starts": 0, "preemptions": 0}
        self._count("starts")

    def on_progress(self, done: int, total: int, unit: str) -> None:
        """Records that a step is done."""
        if unit != "steps":
            return
        self._progress_at = time.time()
        self._last = (done, time.monotonic())
        self._planned = total
        if self._first is None:
            self._first = self._last

    def on_series(self, step: int, values: Mapping[str, float]) -> None:
        """Records the newest point of each curve."""
        self._values.update(values)
        if not math.isfinite(values.get("loss", 0.0)):
            self._lost = True

    def preempt(self) -> None:
        """Records that the training was asked to stop."""
        self._count("preemptions")

    def lose(self, longest_s: float) -> None:
        """Records that loss or gradients are NaN, and waits until that was scraped."""
        self._lost = True
        self._await_reading(longest_s)

    def finish(self) -> None:
        """Records the end of the training, and waits until that was scraped, if anything scrapes."""
        self._finished = True
        self._await_reading(min(2 * self._interval_s, _LAST_READING_S))

    def _await_reading(self, longest_s: float) -> None:
        self._read.clear()
        if self._read.wait(longest_s):
            # The answer is on its way in another thread.
            time.sleep(_ANSWERED_S)

    def collect(self) -> Iterator[Metric]:
        """Yields every metric that is known now."""
        ended = self._finished or self._lost
        yield from self._curves()
        yield from self._progress()
        yield from self._checkpoints()
        yield from self._ends()
        now = time.monotonic()
        if self._read_at is not None:
            self._interval_s = now - self._read_at
        self._read_at = now
        if ended:
            self._read.set()

    def _ends(self) -> Iterator[Metric]:
        meaning = "1 once loss or gradients are no numbers any more, else 0."
        yield self._gauge("not_a_number", meaning, float(self._lost))
        yield self._gauge("finished", "1 once the training came to its end, else 0.", float(self._finished))
        restarts, preemptions = self._history["starts"] - 1, self._history["preemptions"]
        yield self._counter("restarts", "How often the training was started again.", restarts)
        yield self._counter("preemptions", "How often the training was asked to stop.", preemptions)

    def _curves(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for curve, value in self._values.copy().items():
            if figure := FIGURES.get(curve):
                labels = [*_LABELS, "part"] if figure.part else _LABELS
                family = families.setdefault(
                    figure.name, GaugeMetricFamily(_NAMESPACE + figure.name, figure.meaning, labels=labels)
                )
                family.add_metric([*self._label_values, *([figure.part] if figure.part else [])], value * figure.factor)
        yield from families.values()

    def _progress(self) -> Iterator[Metric]:
        yield self._gauge("start_timestamp_seconds", "When this process began to train.", self._started)
        yield self._gauge("progress_timestamp_seconds", "When the last step ended.", self._progress_at)
        if self._first is None:
            return
        done, at = self._last
        first, began = self._first
        yield self._gauge("step", "Optimiser steps done.", done)
        yield self._gauge("planned_steps", "Optimiser steps of the whole training.", self._planned)
        if self._training.epochs is not None:
            epoch = self._training.epochs * done / self._planned
            yield self._gauge("epoch", "Passes over the data done.", epoch)
        if done > first:
            meaning = "Mean duration of a step, with all that comes between, since this process began."
            yield self._gauge("step_duration_seconds", meaning, (at - began) / (done - first))

    def _checkpoints(self) -> Iterator[Metric]:
        training = self._training
        volume = os.statvfs(training.scratch)
        size, free = volume.f_blocks * volume.f_frsize, volume.f_bavail * volume.f_frsize
        yield self._gauge("filesystem_size_bytes", "Size of the volume with the checkpoints.", size)
        yield self._gauge("filesystem_avail_bytes", "What is free on the volume with the checkpoints.", free)
        steps = training.checkpoint_every_steps
        yield self._gauge("checkpoint_interval_steps", "Steps between two checkpoints.", steps)
        if training.saving_s is not None:
            meaning = "Time for which checkpoints have held this process up."
            yield self._counter("checkpoint_pause_seconds", meaning, training.saving_s())
        try:
            written = {path: path.stat().st_mtime for path in training.scratch.glob(training.completed_by)}
            newest = max(written, key=written.__getitem__, default=None)
            size = self._size(newest) if newest else 0
        except OSError:
            # It was just deleted because of a newer one; the next reading finds that.
            return
        if newest is not None:
            meaning = "When the newest complete checkpoint was complete."
            yield self._gauge("checkpoint_timestamp_seconds", meaning, written[newest])
            yield self._gauge("checkpoint_size_bytes", "Size of the newest complete checkpoint.", size)

    def _size(self, completing: Path) -> int:
        """Returns the size of a checkpoint, which is measured once."""
        if self._size_of is None or self._size_of[0] != completing:
            files = completing.parent.rglob("*") if completing.name == MARKER else [completing]
            self._size_of = completing, sum(path.stat().st_size for path in files if path.is_file())
        return self._size_of[1]

    def _gauge(self, name: str, meaning: str, value: float) -> Metric:
        family = GaugeMetricFamily(_NAMESPACE + name, meaning, labels=_LABELS)
        family.add_metric(self._label_values, value)
        return family

    def _counter(self, name: str, meaning: str, value: float) -> Metric:
        family = CounterMetricFamily(_NAMESPACE + name, meaning, labels=_LABELS)
        family.add_metric(self._label_values, value)
        return family

    def _count(self, name: str) -> None:
        self._history[name] += 1
        write_atomically(self._training.scratch / _HISTORY_FILE, json.dumps(self._history))


def _serve(metrics: TrainingMetrics, port: str) -> Callable[[], None] | None:
    """Listens on a port of this machine; returns what ends that, or None if the port cannot be had."""
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(int(port), registry=registry)
    except (OSError, ValueError, OverflowError) as error:
        print(
            f"Warning: no metrics for Prometheus, because {PORT}={port} cannot be listened on: {error}. Set a free "
            "port between 1 and 65535.",
            file=sys.stderr,
        )
        return None

    # Data loaders' processes are forked from this one: one that outlives it must not keep the port from the next start.
    os.register_at_fork(after_in_child=server.socket.close)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
