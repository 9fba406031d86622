"""Measures the whole smoke run: time, memory, the stages' overhead, and the cost of a second run."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.memory import PeakMemory
from bench.report import Figure, conclude
from pathoflow.contract.workdir import WorkDir

_SMALL = (
    "teaching_atlas.num_public_train=300",
    "teaching_atlas.num_public_heldout=60",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="data stages only, on a small atlas")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["run", "--recipe", "smoke", "--workdir", folder]
        if quick:
            arguments += [part for text in _SMALL for part in ("--set", text)] + ["--only", "teaching_atlas"]
        run_s, peak_gib = _measure(arguments)
        workdir = WorkDir(Path(folder))
        run = workdir.read_run()
        assert run is not None
        overhead_s = max(state.total_s - state.run_s for state in map(workdir.read_state, run.stages))
        figures = [
            Figure("smoke run", run_s / 60, "min", "a bar we set", 10),
            Figure("peak memory, all processes", peak_gib, "GiB", "a bar we set", 6),
            Figure("largest overhead of a stage", overhead_s, "s", "a bar we set", 5),
        ]
        if not quick:
            again_s, _ = _measure(arguments)
            figures.append(Figure("run again, unchanged", again_s, "s", "a bar we set", 30))
    conclude("Smoke run" + (" (quick: teaching_atlas only)" if quick else ""), figures)


def _measure(arguments: list[str]) -> tuple[float, float]:
    """Returns wall time in seconds and the largest sum of proportional memory of the process tree in GiB."""
    started = time.perf_counter()
    process = subprocess.Popen([str(Path(sys.executable).with_name("pathoflow")), *arguments])
    peak = PeakMemory(process.pid)
    peak.start()
    if process.wait() != 0:
        sys.exit(f"pathoflow {' '.join(arguments)} failed")
    return time.perf_counter() - started, peak.peak_bytes / 2**30


if __name__ == "__main__":
    main()
