"""Trains the model by reinforcement learning on multiple-choice questions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from components.training.rl.config import RlConfig
from pathoflow.contract.output import StageOutput
from pathoflow.data.schemas import read_rows
from pathoflow.data.trainable.quarantine import quarantine_faulty
from pathoflow.data.trainable.rows import question_fault
from pathoflow.errors import InputError
from pathoflow.training.history import (
    ACCURACY,
    CONSISTENCY,
    HISTORY_FILE,
    KEPT_MODELS,
    best,
    measurements,
    model_of,
)
from pathoflow.training.job import Job
from pathoflow.training.launch import launch_workers

REWARD_PARTS = ("reward", "format_reward", "accuracy_reward", "length_reward", "think_answer_consistency")
NUM_AVERAGED = 5


def run(config: RlConfig, *, diagnosis_mcqs: Path, sft: Path, out: StageOutput) -> None:
    """Writes `model/`: of the models along the way, that which answers most dev questions rightly.

    Args:
        config: The stage's configuration.
        diagnosis_mcqs: Questions to train on and to choose by; the held-out ones are not looked at.
        sft: The model to start from.
        out: Where the model goes.

    Raises:
        InputError: There is no usable question to train on or to choose by.
        Preempted: Stopped on request after a checkpoint.
        StageError: A worker failed.
    """
    skipped = {f"diagnosis_mcqs/{part}": _check(diagnosis_mcqs / part, config, out) for part in ("train", "dev")}
    job = Job.create(config, {"diagnosis_mcqs": diagnosis_mcqs, "sft": sft}, out, skipped)
    launch_workers("components.training.rl.worker", job, config)
    job.collect(out)
    history = json.loads((job.scratch / HISTORY_FILE).read_bytes())
    _export(job, sft, best(history)["step"], out)
    _report(config, history, out)


def _check(directory: Path, config: RlConfig, out: StageOutput) -> list[int]:
    """Quarantines the questions of one part that cannot be used; numbers of their rows."""
    num_before = out.num_in
    fault_of = partial(question_fault, reordered=config.shuffle_options and directory.name == "train")
    skipped = quarantine_faulty(read_rows(directory), fault_of, itemgetter("mcq_id"), out)
    num_rows = out.num_in - num_before
    if len(skipped) == num_rows:
        raise InputError(
            f"None of the {num_rows} questions in diagnosis_mcqs/{directory.name} can be used. Look at the counts of "
            "diagnosis_mcqs, and at quarantine.jsonl for what was wrong here."
        )
    return skipped


def _export(job: Job, sft: Path, step: int, out: StageOutput) -> None:
    chosen = model_of(job.scratch / KEPT_MODELS, step) if step else sft / "model"
    shutil.copytree(chosen, out.path / "model")


def _report(config: RlConfig, history: Sequence[dict[str, Any]], out: StageOutput) -> None:
    on_dev, chosen = measurements(history), best(history)
    steps = [entry for entry in history if "reward" in entry]
    for name in ("reward", "think_answer_consistency"):
        out.metric(f"{name}_start", fmean(entry[name] for entry in steps[:NUM_AVERAGED]))
        out.metric(f"{name}_end", fmean(entry[name] for entry in steps[-NUM_AVERAGED:]))
    out.metric("dev_accuracy", chosen[ACCURACY])
    out.metric("dev_accuracy_before", on_dev[0][ACCURACY])
    out.metric(CONSISTENCY, chosen[CONSISTENCY])
    out.metric(f"{CONSISTENCY}_before", on_dev[0][CONSISTENCY])
    out.metric("best_step", chosen["step"])
    out.note("selected_on", "dev split")
    if config.algorithm == "dapo":
        out.note("dynamic_sampling", "none: groups without variance give no gradient and are not replaced")
    out.plot("rewards", _curves(steps, REWARD_PARTS, "Mean over the completions of a step"))
    out.plot("dev_accuracy", _curves(on_dev, (ACCURACY, CONSISTENCY), "Share of the dev questions"))


def _curves(entries: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> Figure:
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    for name in names:
        points = [(entry["step"], entry[name]) for entry in entries if name in entry]
        axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < NUM_AVERAGED**2 else None)
    axes.set_xlabel("step")
    axes.set_title(title)
    axes.legend()
    return figure
