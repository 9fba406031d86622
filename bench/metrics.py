"""Measures the cost of a training's Prometheus metrics, as a share of its time.

A step notes its progress and, at worst, a point of each curve; a reading, every 15 s as in the manifests, holds
Python's lock while its text is made. Readings go over HTTP. The step is that of the smoke recipe's cpt.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.checkpoint import measure, write_data
from bench.report import Figure, conclude
from components.training.cpt.config import CptConfig
from pathoflow.contract.output import Reporter
from pathoflow.contract.recipe import find_recipe, load_stage
from pathoflow.training.prometheus import COMPLETED_BY, FIGURES, PORT, Training, serve_metrics

PORT_HERE = 19464
READ_EVERY_S = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps and readings")
    quick = parser.parse_args().quick
    recipe = load_stage(CptConfig, find_recipe("smoke"), {})[0]
    assert isinstance(recipe, CptConfig)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_data(data)
        *_, step_s = measure(recipe, data, "run", 3 if quick else 10, False)
        note_s, reading_s = _cost(data, 2_000 if quick else 20_000, 20 if quick else 200)
    print(
        f"{note_s * 1e6:.1f} µs noted in a step of {step_s * 1e3:.1f} ms; "
        f"{reading_s * 1e3:.2f} ms a reading of {len(FIGURES)} curves"
    )
    share = 100 * (note_s / step_s + reading_s / READ_EVERY_S)
    conclude("Metrics", [Figure("metrics for Prometheus", share, "%", "the smoke recipe's cpt", 0.1)])


def _cost(scratch: Path, num_steps: int, num_readings: int) -> tuple[float, float]:
    """Returns the seconds that a step's record takes, and those of a scrape from the request to the last byte."""
    os.environ[PORT] = str(PORT_HERE)
    values = dict.fromkeys(FIGURES, 0.5)
    with serve_metrics(Training("cpt", "bench", scratch, COMPLETED_BY, 400)):
        (metrics,) = Reporter.listeners
        began = time.perf_counter()
        for step in range(num_steps):
            metrics.on_progress(step, num_steps, "steps")
            metrics.on_series(step, values)
        note_s = (time.perf_counter() - began) / num_steps
        began = time.perf_counter()
        for _ in range(num_readings):
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT_HERE}/metrics", timeout=10) as answer:
                answer.read()
        return note_s, (time.perf_counter() - began) / num_readings


if __name__ == "__main__":
    main()
