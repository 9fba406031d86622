"""A CLIP to start from is loaded whole, and must know something."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from components.training.pathoclip.config import PathoclipConfig
from components.training.pathoclip.stage import run
from pathoflow.errors import InputError
from tests.components.training.pathoclip.test_pathoclip import CONFIG, spots
from tests.support.pairs import new_output, write_corpus

VALUES = {"num_steps": 1, "batch_size": 16, "learning_rate": 1e-9, "num_threads": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), train=spots(96, 0, "quilt_1m/train"))


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory) -> Path:
    out = new_output(tmp_path_factory.mktemp("trained"))
    run(CONFIG, corpus=corpus, out=out)
    assert 0.4 < out.metrics["initial_rank"] < 0.6
    return out.path / "model"


def test_a_trained_model_knows_its_captions_before_the_first_step(trained, corpus, tmp_path):
    out = new_output(tmp_path)
    run(PathoclipConfig(model=str(trained), **VALUES), corpus=corpus, out=out)
    assert out.metrics["initial_rank"] > 0.9
    assert out.metrics["initial_loss"] < math.log(96)
    assert "float32, xxh3-128:" in out.notes["loaded_weights"]


def test_noise_is_refused_and_can_be_allowed(trained, corpus, tmp_path):
    noise = Path(shutil.copytree(trained, tmp_path / "noise"))
    torch.manual_seed(0)
    CLIPModel(CLIPModel.config_class.from_pretrained(trained)).save_pretrained(noise)
    config = PathoclipConfig(model=str(noise), **VALUES)
    with pytest.raises(InputError, match=r"where 0\.5 is chance: it knows next to nothing"):
        run(config, corpus=corpus, out=new_output(tmp_path / "refused"))
    out = new_output(tmp_path / "allowed")
    run(config.model_copy(update={"min_initial_rank": None}), corpus=corpus, out=out)
    assert out.metrics["initial_rank"] < 0.6


def test_a_tower_that_is_missing_is_named(trained, corpus, tmp_path):
    lacking = Path(shutil.copytree(trained, tmp_path / "lacking"))
    tensors = load_file(lacking / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("text_model.encoder")}
    save_file(kept, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"16 are missing: text_model.encoder.layers.0"):
        run(PathoclipConfig(model=str(lacking), **VALUES), corpus=corpus, out=new_output(tmp_path))
