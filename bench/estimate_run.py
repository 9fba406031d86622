"""Measures the peak memory of one training process: `python -m bench.estimate_run STAGE FIRST JOB FIGURES`.

It runs the stage's own worker (or, for pathoclip, the stage) twice: on a job with a very small model, after which all
is imported and set up that such a training needs, and on the job that counts. It writes by how many bytes its resident
memory rose at most above what it was between the two. The kernel keeps the highest value (`VmHWM`), which is set back
first. Every tensor of some size is a mapping of its own (`MALLOC_MMAP_THRESHOLD_`) and given back when it is freed, so
that what is resident is what is alive.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def main() -> None:
    stage, first, counted, figures = sys.argv[1], *map(Path, sys.argv[2:])
    run = _pathoclip if stage == "pathoclip" else _worker(stage)
    run(first)
    before = start_counting()
    run(counted)
    rank = os.environ.get("RANK", "0")
    figures.with_suffix(f".{rank}.json").write_text(json.dumps({"before": before, "peak": resident("VmHWM")}))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _worker(stage: str) -> Callable[[Path], None]:
    from accelerate import PartialState

    from pathoflow.training.job import Job

    worker = importlib.import_module(f"components.training.{stage}.worker")
    state = PartialState(cpu=True)
    return lambda file: worker.main(Job.load(file), state)


def _pathoclip(file: Path) -> None:
    from components.training.pathoclip.config import PathoclipConfig
    from components.training.pathoclip.stage import run
    from pathoflow.contract.output import StageOutput

    asked = json.loads(file.read_text())
    out = StageOutput(Path(asked["output"]), Path(asked["scratch"]))
    run(PathoclipConfig(**asked["config"]), corpus=Path(asked["corpus"]), out=out)


def start_counting() -> int:
    """Returns the resident bytes now, and resets the kernel's peak."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(name: str) -> int:
    """Returns the bytes of this process's memory: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


if __name__ == "__main__":
    main()
