"""Reports progress, curves and warnings of a training while it runs."""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pathoflow.contract.output import Reporter
from pathoflow.training.callbacks import all_reduce_sums
from pathoflow.training.config import TrainingConfig
from pathoflow.training.diagnostics import NotANumberError, divergence, not_a_number, starvation

_GIB = 2**30
# Dense bfloat16, from the makers' data sheets, in 10^12 operations per second.
_PEAK_TFLOPS = {"B200": 2250.0, "H200": 989.4, "H100 PCIe": 756.5, "H100": 989.4, "L40S": 362.0, "A100": 312.0}


class Meter(Protocol):
    """Counts of one process since training (re)started, kept by its Trainer."""

    data_wait_s: float
    num_tokens: int
    num_computed: int
    flops: float


class ReportingCallback(TrainerCallback):  # type: ignore[misc]
    """Reports progress, curves and warnings to the stage's reporter, from the first process.

    Args:
        reporter: Where they go.
        curves: Names of the Trainer's log entries to pass on, each with its name in the curves.
        config: The training's configuration.
        trainer: Its `saving_s` and, if it has one, its `meter` are read.
    """

    def __init__(self, reporter: Reporter, curves: dict[str, str], config: TrainingConfig, trainer: Any) -> None:
        self._reporter = reporter
        self._curves = curves
        self._config = config
        self._trainer = trainer
        self._peak_flops = peak_flops(config)
        self._shown: dict[str, float | str] = {}
        self._warned: set[str] = set()
        self._began = (0, time.monotonic())
        self._before: dict[str, float] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the clocks."""
        self._began = (state.global_step, time.monotonic())
        self._before = self._totals(args, state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Moves the progress bar."""
        if state.is_world_process_zero:
            first_step, began = self._began
            pace_s = (time.monotonic() - began) / (state.global_step - first_step)
            left_s = round(pace_s * (state.max_steps - state.global_step), 1)
            self._reporter.progress(state.global_step, state.max_steps, "steps", left_s=left_s, **self._shown)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Adds a point to each curve.

        Raises:
            NotANumberError: The loss or the gradients are no numbers any more.
        """
        if "loss" not in logs:
            return
        if advice := not_a_number(state.global_step, logs["loss"], logs.get("grad_norm")):
            raise NotANumberError(advice)
        totals = self._totals(args, state)
        rates = self._rates({name: totals[name] - self._before.get(name, 0.0) for name in totals}, args.world_size)
        self._before = totals
        if not state.is_world_process_zero:
            return
        values = {name: float(logs[key]) for key, name in self._curves.items() if logs.get(key) is not None}
        self._reporter.series(state.global_step, **values, **rates)
        self._shown = {"loss": round(logs["loss"], 3)}
        self._shown |= {name: rates[key] for name, key in (("tok/s", "tokens_per_s"), ("MFU", "mfu")) if key in rates}
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        self._warn("divergence", divergence(losses))
        interval_s = time.monotonic() - self._began[1]
        workers, wait_share = self._config.data_workers, rates.get("data_wait_share", 0.0)
        # A cache needs no workers, and is soon full.
        idle_cores = 0 if self._config.cached_samples else self._idle_cores(args.world_size)
        self._warn("data", starvation(wait_share, interval_s, workers, idle_cores))

    def _idle_cores(self, num_processes: int) -> int:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", num_processes))
        busy = here * (self._config.threads_per_process + self._config.data_workers)
        return (os.cpu_count() or 1) - busy

    def _totals(self, args: TrainingArguments, state: TrainerState) -> dict[str, float]:
        """Sums the counts of all processes so far; seconds are summed, too."""
        totals = {
            "elapsed_s": time.monotonic(),
            "steps": float(state.global_step),
            "saving_s": float(getattr(self._trainer, "saving_s", 0.0)),
        }
        meter: Meter | None = getattr(self._trainer, "meter", None)
        if meter is not None:
            totals |= {"wait_s": meter.data_wait_s, "tokens": meter.num_tokens, "computed": meter.num_computed}
            totals["flops"] = meter.flops
        totals = dict(zip(totals, all_reduce_sums(list(totals.values()), args.device), strict=True))
        if meter is None:
            totals["tokens"] = float(state.num_input_tokens_seen)
        return totals

    def _rates(self, done: dict[str, float], num_processes: int) -> dict[str, float]:
        """Computes the rates of an interval in which `done` was done."""
        process_s = max(done["elapsed_s"], 1e-9)
        rates = {"memory_gib": memory_gib(), "checkpoint_share": done["saving_s"] / process_s}
        per_process = self._config.batch_size_per_process * self._config.gradient_accumulation_steps
        # Steps and seconds are both those of all processes added up.
        rates["samples_per_s"] = done["steps"] / process_s * per_process * num_processes
        if done["tokens"]:
            rates["tokens_per_s"] = done["tokens"] / process_s * num_processes
        if done.get("computed"):
            rates["padding_share"] = 1 - done["tokens"] / done["computed"]
            rates["data_wait_share"] = done["wait_s"] / process_s
            if self._peak_flops:
                rates["mfu"] = done["flops"] / process_s / self._peak_flops
        return rates

    def _warn(self, kind: str, advice: str | None) -> None:
        if advice is None:
            return
        self._shown["warning"] = advice
        if kind not in self._warned:
            self._warned.add(kind)
            print(f"Warning: {advice}.", file=sys.stderr)


def peak_flops(config: TrainingConfig) -> float | None:
    """Returns the peak operations per second of one device; None if that is not known."""
    if config.peak_tflops is not None:
        return config.peak_tflops * 1e12
    if not torch.cuda.is_available() or not config.bf16:
        return None
    name = torch.cuda.get_device_name()
    return next((peak * 1e12 for known, peak in _PEAK_TFLOPS.items() if known in name), None)


def memory_gib() -> float:
    """Returns the most memory that this process has held, the GPU's if it has one, in GiB."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_reserved()) / _GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB
