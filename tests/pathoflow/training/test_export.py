"""What is exported is a plain model as stock transformers writes it, each tensor once, however it was trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration as Stock

from tests.support.exporting import NUM_STEPS

LORA = {"lora_rank": 2, "freeze_merger": True}
CASES = {
    0: {
        "tied": {"tied": True},
        "untied": {"tied": False},
        "tied-lora": {"tied": True, **LORA},
        "untied-lora": {"tied": False, **LORA},
    },
    2: {"tied": {"tied": True}, "untied": {"tied": False}, "tied-lora": {"tied": True, **LORA}},
    3: {"tied": {"tied": True}, "untied": {"tied": False}},
}
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(0, id="plain"),
        pytest.param(2, id="zero 2", marks=[needs_deepspeed, pytest.mark.slow]),
        pytest.param(3, id="zero 3", marks=needs_deepspeed),
    ],
)
def exported(request, tmp_path_factory) -> tuple[Path, dict]:
    """The folder of a mode's exports, and its cases."""
    stage = request.param
    folder = tmp_path_factory.mktemp("exported")
    cases = {name: case | {"deepspeed_stage": stage} for name, case in CASES[stage].items()}
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.support.exporting", str(folder), json.dumps(cases)]
    subprocess.run(command, check=True, env=environment, cwd=root, timeout=600)
    return folder, cases


def as_stock(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """What stock transformers writes of the weights in training."""
    model = Stock(Stock.config_class.from_pretrained(folder / f"ours-{step}"))
    model.load_state_dict(load_file(folder / f"whole-{step}.safetensors"))
    model.save_pretrained(folder / f"stock-{step}")
    return load_file(folder / f"stock-{step}" / "model.safetensors")


def test_every_distinct_tensor_is_written_once_under_its_stock_name(exported):
    folder, cases = exported
    for name, case in cases.items():
        for step in range(1, NUM_STEPS + 1):
            ours = load_file(folder / name / f"ours-{step}" / "model.safetensors")
            stock = as_stock(folder / name, step)
            assert ours.keys() == stock.keys(), name
            assert ("lm_head.weight" in ours) != case["tied"], name
            for key, tensor in stock.items():
                assert torch.equal(ours[key], tensor), (name, key)


def test_stock_transformers_loads_it_whole_and_it_has_learned(exported):
    folder, cases = exported
    for name in cases:
        weights = []
        for step in range(1, NUM_STEPS + 1):
            model, report = Stock.from_pretrained(folder / name / f"ours-{step}", output_loading_info=True)
            assert not any(report.values()), name
            weights.append(dict(model.named_parameters()))
        changed = {key for key, tensor in weights[0].items() if not torch.equal(tensor, weights[1][key])}
        assert any("q_proj" in key for key in changed), "an export halfway stopped the training"
        assert ("model.language_model.norm.weight" in changed) != ("lora" in name)
