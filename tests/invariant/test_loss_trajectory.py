"""The same samples give the same losses, step by step, however they are spread over packs, rounds and processes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.invariant.trajectory import ONE_PACK, REFERENCE, losses

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def reference() -> list[float]:
    return json.loads(REFERENCE.read_text())


@pytest.mark.parametrize(
    "layout",
    [
        ONE_PACK,
        {"batch_size_per_process": 4, "gradient_accumulation_steps": 2},
        {"batch_size_per_process": 1, "gradient_accumulation_steps": 8},
        {"batch_size_per_process": 8, "pack_tokens": 64},
        {"batch_size_per_process": 8, "gradient_checkpointing": True},
        {"batch_size_per_process": 8, "data_workers": 1},
    ],
    ids=["8x1", "4x2", "1x8", "short packs", "gradient checkpointing", "data worker"],
)
def test_one_process(reference, layout):
    assert losses(layout) == pytest.approx(reference, rel=TOLERANCE)


def test_in_bfloat16_it_is_the_same_as_far_as_that_goes(reference):
    assert losses(ONE_PACK | {"bf16": True}) == pytest.approx(reference, rel=1e-2)


def in_two_processes(tmp_path: Path, **values: object) -> list[float]:
    layout = {"batch_size_per_process": 2, "gradient_accumulation_steps": 2} | values
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.invariant.trajectory", json.dumps(layout), str(tmp_path / "losses.json")]
    subprocess.run(command, check=True, env=environment, cwd=root, timeout=600)
    return json.loads((tmp_path / "losses.json").read_text())


def test_two_processes(reference, tmp_path):
    assert in_two_processes(tmp_path) == pytest.approx(reference, rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize("stage", [2, 3])
def test_zero(reference, tmp_path, stage):
    assert in_two_processes(tmp_path, deepspeed_stage=stage) == pytest.approx(reference, rel=1e-3)
