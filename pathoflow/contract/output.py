"""Receives a stage's results: its staging directory, its counts, its progress and its metrics."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pathoflow.errors import StageError
from pathoflow.system.files import write_atomically
from pathoflow.system.processes import STOP_REQUESTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUARANTINE_FILE = "quarantine.jsonl"


class ProgressListener(Protocol):
    """Receives all that the reporters of this process write."""

    def on_progress(self, done: int, total: int, unit: str) -> None:
        """Notes that `done` of `total` units are finished."""

    def on_series(self, step: int, values: Mapping[str, float]) -> None:
        """Notes that each named series has a new point."""


class Reporter:
    """Reports progress and metric series of one stage, kept in plain files.

    Worker processes of a stage (torchrun ranks, say) open the same reporter by its directory; the process that
    supervises the stage forwards the series to MLflow and the command line shows the progress.

    Args:
        directory: Where `progress.json` and `series.jsonl` of this stage live.

    Attributes:
        listeners: Listeners to all reporters of this process.
    """

    listeners: ClassVar[list[ProgressListener]] = []
    _interval_s = 0.2

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._last_progress_s = 0.0

    def progress(self, done: int, total: int, unit: str, **shown: float | str) -> None:
        """Reports that `done` of `total` units are finished, with figures to show beside the bar.

        Cheap enough for inner loops: at most five writes a second reach the disk, and the last one always does.

        Raises:
            KeyboardInterrupt: The stage was asked to stop, and Python lost the interrupt.
        """
        if STOP_REQUESTED.is_set():
            raise KeyboardInterrupt
        for listener in self.listeners:
            listener.on_progress(done, total, unit)
        now = time.monotonic()
        if now - self._last_progress_s < self._interval_s and done < total:
            return
        self._last_progress_s = now
        state = {"done": done, "total": total, "unit": unit, "shown": shown, "at": time.time()}
        path = self.directory / "progress.json"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(path)

    def series(self, step: int, **values: float) -> None:
        """Appends one point of each named metric series, at training step `step`."""
        line = json.dumps({"step": step, "at_ms": int(time.time() * 1000), "values": values})
        with (self.directory / "series.jsonl").open("a") as file:
            file.write(line + "\n")
        for listener in self.listeners:
            listener.on_series(step, values)

    def cut_back(self, step: int) -> None:
        """Drops the points behind `step`: training goes on from there and reports them again."""
        path = self.directory / "series.jsonl"
        if not path.is_file():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step]
        if kept != lines:
            write_atomically(path, b"".join(kept))


class StageOutput(Reporter):
    """Collects the output of one run of a stage.

    Args:
        path: The staging directory. What lies here when `run` returns is sealed and becomes the output.
        scratch: Survives a kill and is handed to the next attempt with the same configuration and inputs
            (checkpoints, finished pages); removed once the output is sealed.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        super().__init__(scratch / "report")
        self.path = path
        self.scratch = scratch
        path.mkdir(parents=True, exist_ok=True)
        self.num_in = 0
        self.num_out = 0
        self.quarantined: Counter[str] = Counter()
        self.metrics: dict[str, float] = {}
        self.notes: dict[str, str] = {}

    def quarantine(self, item: str, reason: str, detail: str = "") -> None:
        """Sets one bad record aside: it is counted under `reason` and listed in `quarantine.jsonl`.

        Args:
            item: The bad record, as its user would name it (file and page, row, sample id).
            reason: A short, stable, snake_case word to count by.
            detail: The exact fault and its remedy.
        """
        self.quarantined[reason] += 1
        line = json.dumps({"item": item, "reason": reason, "detail": detail}, ensure_ascii=False)
        # A name that is not UTF-8 may be why the record is bad: it is listed with its bytes escaped.
        with (self.path / QUARANTINE_FILE).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")

    def metric(self, name: str, value: float) -> None:
        """Records a final figure: in the manifest, in MLflow and, if it is the key metric, in the run's table.

        Raises:
            StageError: The figure is infinite or not a number.
        """
        if not math.isfinite(value):
            raise StageError(
                f"The metric {name} came out as {value}. Training that diverged or a set without members makes such "
                "a figure: look at the stage's series and counts in MLflow."
            )
        self.metrics[name] = float(value)

    def note(self, name: str, value: str) -> None:
        """Records a word that belongs beside the figures (which stop rule acted, which teacher wrote)."""
        self.notes[name] = value

    def save_json(self, name: str, value: Mapping[str, Any]) -> Path:
        """Writes `value` as readable JSON to `name` below the output."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
        return path

    def plot(self, name: str, figure: Figure) -> Path:
        """Saves a matplotlib figure as `plots/<name>.png`, which MLflow also shows, with the same bytes each time."""
        path = self.path / "plots" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, bbox_inches="tight", metadata={"Software": None})
        return path
