"""Weights in every layout in which others publish them: loaded to the byte, or refused by name."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as stock

from pathoflow.errors import ConfigError, InputError
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import copy_model, load_processor, save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.modeling.weight_files import tensors_in
from tests.support.conversations import TINY_SHAPE
from tests.support.published import publish, write_shards

LOST = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["A yellow lesion: lipoma."] * 4, 340)


def tiny(tokenizer, *, tied: bool):
    model = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0)
    if not tied:
        values = model.config.to_dict()
        values["text_config"]["tie_word_embeddings"] = values["tie_word_embeddings"] = False
        config = type(model.config)(**values)
        torch.manual_seed(1)
        settings, model = model.generation_config, Qwen2_5_VLForConditionalGeneration(config)
        model.generation_config = settings
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("old_names", [True, False], ids=["hub names", "new names"])
@pytest.mark.parametrize("tied", [True, False], ids=["3B: tied", "7B: untied"])
def test_every_tensor_of_a_published_qwen_is_the_files(tokenizer, tmp_path, tied, old_names, num_shards, dtype):
    files = publish(tiny(tokenizer, tied=tied), tmp_path, old_names=old_names, num_shards=num_shards)
    model, report = load(Qwen2_5_VLForConditionalGeneration, ModelReference(tmp_path), dtype=dtype)
    parameters = dict(model.named_parameters())
    assert parameters.keys() == files.keys()
    for name, tensor in files.items():
        assert torch.equal(parameters[name], tensor.to(dtype)), name
    assert (model.lm_head.weight is model.model.language_model.embed_tokens.weight) == tied
    reference = stock.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    for name, tensor in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert report.num_tensors == len(files)
    assert report.num_bytes == sum(tensor.numel() for tensor in files.values()) * dtype.itemsize
    assert report.dtype == str(dtype).removeprefix("torch.")
    # Buffers are not in the files: rotary positions must come out as the stock model's.
    for name, buffer in reference.named_buffers():
        assert torch.equal(dict(model.named_buffers())[name], buffer), name


@pytest.mark.parametrize("patch_size", [16, 14], ids=["B: 16 px", "L: 14 px"])
def test_every_tensor_of_openais_clip_is_the_files(tmp_path, patch_size):
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=tower | {"vocab_size": 99, "hidden_act": "quick_gelu"},
        vision_config=tower | {"image_size": patch_size * 2, "patch_size": patch_size, "hidden_act": "quick_gelu"},
        projection_dim=16,
    )
    torch.manual_seed(0)
    source = CLIPModel(config)
    config.save_pretrained(tmp_path)
    tensors = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    # OpenAI's files hold these buffers, which the model makes itself today.
    written = tensors | {
        "text_model.embeddings.position_ids": torch.arange(77).unsqueeze(0),
        "vision_model.embeddings.position_ids": torch.arange(5).unsqueeze(0),
    }
    write_shards(written, tmp_path)
    model, report = load(CLIPModel, ModelReference(tmp_path))
    for name, tensor in tensors.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert report.num_tensors == len(dict(source.named_parameters()))
    assert model.config.vision_config.hidden_act == "quick_gelu"


def test_the_digest_tells_weights_apart_and_nothing_else(tokenizer, tmp_path):
    model = tiny(tokenizer, tied=True)
    publish(model, tmp_path / "old", num_shards=2)
    publish(model, tmp_path / "new", old_names=False)
    with torch.no_grad():
        model.model.visual.merger.mlp[2].bias[3] += 0.5
    publish(model, tmp_path / "other")
    old, new, other = (
        load(Qwen2_5_VLForConditionalGeneration, ModelReference(tmp_path / name))[1].digest
        for name in ("old", "new", "other")
    )
    assert old == new != other
    assert old.startswith("xxh3-128:")


def changed(directory, change) -> ModelReference:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return ModelReference(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(LOST), r"1 are missing: model.language_model.layers.0.self_attn.q_proj.weight"),
        (lambda t: t.update({"model.layers.9.extra": torch.zeros(2)}), r"1 are unknown: .*layers.9.extra"),
        (
            lambda t: t.update({"visual.merger.mlp.0.bias": torch.zeros(3)}),
            r"1 have another shape: model.visual.merger.mlp.0.bias \[3\] instead of \[64\]",
        ),
        (
            lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1}),
            "ties lm_head.weight to .*two that differ",
        ),
    ],
    ids=["missing", "unknown", "shape", "two where one is tied"],
)
def test_tensors_that_do_not_fit_are_named(tokenizer, tmp_path, change, message):
    publish(tiny(tokenizer, tied=True), tmp_path)
    with pytest.raises(InputError, match=message):
        load(Qwen2_5_VLForConditionalGeneration, changed(tmp_path, change))


def test_all_random_weights_of_a_stranger_are_refused_in_few_words(tokenizer, tmp_path):
    publish(tiny(tokenizer, tied=True), tmp_path)

    def rename(tensors):
        for name in list(tensors):
            tensors[f"strange.{name}"] = tensors.pop(name)

    with pytest.raises(InputError, match=r"are missing: .* and \d+ more; \d+ are unknown") as error:
        load(Qwen2_5_VLForConditionalGeneration, changed(tmp_path, rename))
    assert len(str(error.value)) < 2000


def test_what_the_recipe_ignores_starts_at_random_and_is_reported(tokenizer, tmp_path):
    publish(tiny(tokenizer, tied=True), tmp_path)
    changed(tmp_path, lambda t: (t.pop("visual.merger.mlp.2.weight"), t.update({"value_head": torch.zeros(1)})))
    forgiving = ModelReference(tmp_path, ignored_tensors=("model.visual.merger.*", "*value_head"))
    _, report = load(Qwen2_5_VLForConditionalGeneration, forgiving)
    assert report.absent == ("model.visual.merger.mlp.2.weight",)
    assert "random, because absent and ignored: model.visual.merger.mlp.2.weight" in report.notes()["loaded_weights"]


def test_a_models_sampling_settings_stay_behind(tokenizer, tmp_path):
    source = tiny(tokenizer, tied=True)
    publish(source, tmp_path)
    assert stock.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path).generation_config.repetition_penalty > 1
    model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(tmp_path))
    settings = model.generation_config.to_diff_dict()
    settings.pop("transformers_version")
    assert settings.keys() == {"eos_token_id", "pad_token_id"}
    assert settings["eos_token_id"] == source.generation_config.eos_token_id


def test_broken_and_missing_files_are_named(tokenizer, tmp_path):
    publish(tiny(tokenizer, tied=True), tmp_path / "sound", num_shards=3)
    second = "model-00002-of-00003.safetensors"

    def copy(name):
        return shutil.copytree(tmp_path / "sound", tmp_path / name)

    cut = copy("cut")
    data = (cut / second).read_bytes()
    (cut / second).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=f"{second} is broken"):
        load(Qwen2_5_VLForConditionalGeneration, ModelReference(cut))
    gone = copy("gone")
    (gone / second).unlink()
    with pytest.raises(InputError, match=f"{second} is broken or missing"):
        load(Qwen2_5_VLForConditionalGeneration, ModelReference(gone))
    index = copy("index") / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"]["model.norm2.weight"] = second
    index.write_text(json.dumps(listed))
    with pytest.raises(InputError, match=r"lists model.norm2.weight, which no file holds"):
        tensors_in(index.parent)
    index.write_text("{")
    with pytest.raises(InputError, match="is no index of weights"):
        tensors_in(index.parent)
    empty = tmp_path / "empty"
    empty.mkdir()
    for file in ("config.json", "generation_config.json"):
        shutil.copy(tmp_path / "sound" / file, empty)
    with pytest.raises(InputError, match=r"no model.safetensors in .* it holds config.json"):
        load(Qwen2_5_VLForConditionalGeneration, ModelReference(empty))
    torch.save({}, empty / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"weights are pickled \(pytorch_model.bin\)"):
        load(Qwen2_5_VLForConditionalGeneration, ModelReference(empty))
    with pytest.raises(InputError, match="holds a model of type 'qwen2_5_vl', and 'clip' is wanted"):
        load(CLIPModel, ModelReference(tmp_path / "sound"))
    with pytest.raises(InputError, match="no such directory"):
        load(CLIPModel, ModelReference(tmp_path / "nowhere"))


def test_a_model_on_the_hub_needs_its_revision(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = "Qwen/Qwen2.5-VL-3B-Instruct"
    with pytest.raises(ConfigError, match="name the commit"):
        load(Qwen2_5_VLForConditionalGeneration, ModelReference(name))
    with pytest.raises(InputError, match=f"{name} at revision 0000000 cannot be had"):
        load(Qwen2_5_VLForConditionalGeneration, ModelReference(name, "0" * 7))


def test_a_copied_model_is_the_same_to_the_byte(tokenizer, tmp_path):
    publish(tiny(tokenizer, tied=False), tmp_path / "hub", num_shards=2)
    processor = new_processor(tokenizer, max_pixels=784)
    copy_model(tmp_path / "hub", processor, tmp_path / "copy")
    for file in (tmp_path / "hub").glob("model*"):
        assert (tmp_path / "copy" / file.name).read_bytes() == file.read_bytes()
    assert load_processor(tmp_path / "copy").image_processor.size["longest_edge"] == 784
    digests = {
        load(Qwen2_5_VLForConditionalGeneration, ModelReference(tmp_path / at))[1].digest for at in ("hub", "copy")
    }
    assert len(digests) == 1


def test_what_we_save_is_what_we_load(tokenizer, tmp_path):
    model = tiny(tokenizer, tied=True)
    save_model(model, new_processor(tokenizer, max_pixels=784), tmp_path)
    loaded, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(tmp_path))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_processes_that_share_the_weights_load_the_same_and_never_hold_them_whole(tokenizer, tmp_path):
    wide = TinyShape(**TINY_SHAPE | {"hidden_size": 512, "num_layers": 16, "intermediate_size": 1536})
    publish(build_tiny_model(wide, tokenizer, seed=0), tmp_path / "wide", num_shards=3)
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "bench.shared_loading", str(tmp_path / "wide"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    subprocess.run(command, check=True, env=environment, cwd=root, timeout=600)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    _, alone = load(Qwen2_5_VLForConditionalGeneration, ModelReference(tmp_path / "wide"))
    assert {process["digest"] for process in found} == {alone.digest}
    assert alone.num_bytes > 200e6
    assert [process["held_bytes"] * 2 for process in found] == [pytest.approx(alone.num_bytes, rel=0.01)] * 2
    assert sum(process["grown_bytes"] for process in found) <= 1.3 * alone.num_bytes
