"""Reads what a training leaves behind: the entries of the Trainer's log, and the models kept along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HISTORY_FILE = "history.json"
KEPT_MODELS = "kept"

ACCURACY = "dev_accuracy"
CONSISTENCY = "dev_think_answer_consistency"


def measurements(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the entries that are measurements on the dev questions, in order."""
    return [entry for entry in history if ACCURACY in entry]


def best(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the measurement with the highest accuracy; of equal ones the latest, whose model was trained longest.

    >>> best([{"step": 0, "dev_accuracy": 0.5}, {"step": 2, "dev_accuracy": 0.5}, {"step": 4, "dev_accuracy": 0.4}])
    {'step': 2, 'dev_accuracy': 0.5}
    """
    return max(measurements(history), key=lambda entry: (entry[ACCURACY], entry["step"]))


def model_of(directory: Path, step: int) -> Path:
    """Returns where the model after `step` steps is kept."""
    return directory / f"step-{step}"
