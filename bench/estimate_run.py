"""One process of a training whose peak of memory is measured: `python -m bench.estimate_run JOB FIGURES STAGE`.

It runs the stage's own worker (or, for pathoclip, the stage) and writes by how many bytes its resident memory rose at
most above what it was before the model was built or loaded. The kernel keeps the highest value (`VmHWM`), which is set
back first. Every tensor of some size is a mapping of its own (`MALLOC_MMAP_THRESHOLD_`), given back when it is freed,
so that what is resident is what is alive.
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
from torch.utils.checkpoint import checkpoint


def main() -> None:
    file, figures, stage = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if stage == "pathoclip":
        work = _pathoclip(file)
    else:
        work = _worker(file, stage)
    _warm_up()
    before = _start()
    work()
    rank = os.environ.get("RANK", "0")
    figures.with_suffix(f".{rank}.json").write_text(json.dumps({"before": before, "peak": _status("VmHWM")}))
    # Some libraries hang in their clean-up when memory was limited; all is said.
    sys.stdout.flush()
    os._exit(0)


def _worker(file: Path, stage: str) -> Callable[[], None]:
    from accelerate import PartialState

    from pathoflow.training.job import Job
    from pathoflow.training.parallelism import prefer_torch_to_compiling

    worker = importlib.import_module(f"components.training.{stage}.worker")
    job, state = Job.load(file), PartialState(cpu=True)
    if job.config["deepspeed_stage"]:
        prefer_torch_to_compiling()
        import deepspeed  # noqa: F401
    if job.config.get("lora_rank"):
        import peft  # noqa: F401
    return lambda: worker.main(job, state)


def _pathoclip(file: Path) -> Callable[[], None]:
    from components.training.pathoclip.config import PathoclipConfig
    from components.training.pathoclip.stage import run
    from pathoflow.output import StageOutput

    asked = json.loads(file.read_text())
    out = StageOutput(Path(asked["output"]), Path(asked["scratch"]))
    config = PathoclipConfig(**asked["config"])
    return lambda: run(config, corpus=Path(asked["corpus"]), out=out)


def _warm_up() -> None:
    """Has torch import and allocate what it does once, whatever is trained."""
    layer = torch.nn.Linear(64, 64)
    loss = checkpoint(layer, torch.randn(64, 64), use_reentrant=False).sum()
    loss.backward()
    torch.optim.AdamW(layer.parameters(), fused=True).step()


def _start() -> int:
    """Resident bytes now; what the kernel keeps as the peak begins here."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


if __name__ == "__main__":
    main()
