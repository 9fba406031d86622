"""Measures the command line's start: `--help` and `compile`; neither may import torch."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.report import Figure, conclude

_TORCH_IMPORTED = """
import sys
from pathoflow.cli import app
try:
    app(sys.argv[1:])
except SystemExit:
    pass
sys.exit(int(any(name in sys.modules for name in ("torch", "transformers", "trl"))))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    repetitions = 2 if parser.parse_args().quick else 5
    with tempfile.TemporaryDirectory() as folder:
        compile_arguments = ["compile", "--recipe", "paper_7b", "--out", str(Path(folder) / "pipeline.yaml")]
        figures = [
            Figure("pathoflow --help", _fastest(["--help"], repetitions), "s", "a bar we set", 0.7),
            Figure("pathoflow compile", _fastest(compile_arguments, repetitions), "s", "a bar we set", 6),
            Figure(
                "torch imported by --help or compile",
                _torch([["--help"], compile_arguments]),
                "times",
                "none",
                0,
            ),
        ]
    conclude(f"Start-up, fastest of {repetitions}", figures)


def _fastest(arguments: list[str], repetitions: int) -> float:
    command = [str(Path(sys.executable).with_name("pathoflow")), *arguments]
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times)


def _torch(commands: list[list[str]]) -> int:
    probes = [[sys.executable, "-c", _TORCH_IMPORTED, *command] for command in commands]
    return sum(subprocess.run(probe, stdout=subprocess.DEVNULL, check=False).returncode for probe in probes)


if __name__ == "__main__":
    main()
