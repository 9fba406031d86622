"""Pickled weights become safetensors; a pickle that would run code does not."""

from __future__ import annotations

import os

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from pathoflow.modeling.convert import main
from pathoflow.modeling.loading import ModelReference, load


@pytest.fixture
def pickled(tmp_path):
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=tower | {"vocab_size": 9}, vision_config=tower | {"image_size": 32}, projection_dim=8
    )
    model = CLIPModel(config)
    directory = tmp_path / "pickled"
    config.save_pretrained(directory)
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    return directory, model


def test_a_pickled_model_is_converted_and_loads(pickled, tmp_path, capsys):
    directory, model = pickled
    assert main([str(directory), "--out", str(tmp_path / "safe")]) == 0
    loaded, _ = load(CLIPModel, ModelReference(tmp_path / "safe"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert "tensors are in" in capsys.readouterr().out
    assert main([str(directory), "--out", str(tmp_path / "safe")]) == 3
    assert "exists already" in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_a_pickle_that_would_run_code_is_refused(pickled, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory, _ = pickled
    torch.save({"weight": Evil()}, directory / "pytorch_model.bin")
    assert main([str(directory), "--out", "safe"]) == 3
    assert "holds more than tensors" in capsys.readouterr().err
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "safe").exists()


def test_what_cannot_be_converted_is_named(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    assert "no pytorch_model.bin" in capsys.readouterr().err
    assert main(["somebody/model", "--out", str(tmp_path / "out")]) == 3
    assert "NAME@REVISION" in capsys.readouterr().err
