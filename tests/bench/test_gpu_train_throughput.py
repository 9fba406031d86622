"""The GPU benchmark runs to its end where it can be tried out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_it_runs_on_a_cpu_with_a_tiny_shape(tmp_path):
    command = [sys.executable, "-m", "bench.gpu.train_throughput", "--device", "cpu", "--shape", "tiny"]
    command += ["--steps", "2", "--warm-up-steps", "1", "--samples-per-step", "4", "--pack-tokens", "4096"]
    command += ["--data-workers", "1", "--against-trl", "2", "--out", str(tmp_path / "figures.json")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=root, timeout=300, check=False)
    # Two steps of four samples are no measurement: the goal need not hold.
    assert done.returncode in (0, 1)
    assert {figure["name"] for figure in json.loads(done.stdout.splitlines()[-1])} == {
        "data wait",
        "fillers",
        "tokens a second",
    }
    result = json.loads((tmp_path / "figures.json").read_text())
    assert result["tokens_per_s"] > 0
    assert all(tflops > 0 for tflops in result["tflops_of_a_step"].values())
