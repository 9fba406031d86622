"""Which weights learn: parts are frozen, adapters are merged in what is written."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from components.training.sft.config import SftConfig
from pathoflow.errors import ConfigError
from pathoflow.modeling.attention import use_segment_attention
from pathoflow.modeling.encoding import Encoder, Sample, filler
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.training.steps import packed
from pathoflow.training.trainable_weights import merge_adapters, prepare_model, trainable_parts
from tests.support.conversations import TINY_SHAPE

LORA = {"lora_rank": 2, "freeze_merger": True}


@pytest.fixture(scope="module")
def encoder():
    return Encoder(new_processor(train_tokenizer(["A yellow lesion: lipoma."] * 4, 340), max_pixels=784))


@pytest.fixture
def model(encoder):
    return build_tiny_model(TinyShape(**TINY_SHAPE), encoder.processor.tokenizer, seed=0)


def part_of(name: str) -> str:
    if "visual" not in name:
        return "language_model"
    return "merger" if "merger" in name else "vision_tower"


@pytest.mark.parametrize("frozen", [(), ("vision_tower",), ("merger",), ("vision_tower", "language_model")])
def test_frozen_parts_get_no_gradient_and_the_others_do(model, encoder, frozen):
    parts = ("vision_tower", "merger", "language_model")
    model = prepare_model(model, SftConfig(**{f"freeze_{part}": part in frozen for part in parts}))
    sample = encoder.encode(Sample("A yellow lesion", [], "text"))
    image = encoder.encode(Sample(f"{IMAGE}lipoma", [filler_image()], "text"))
    model(**packed([sample, image], filler(encoder))).backward()
    learned = {part_of(name) for name, weight in model.named_parameters() if weight.grad is not None}
    assert learned == set(parts) - set(frozen)
    flags = trainable_parts(model)
    assert {part for part in parts if flags[f"{part.removesuffix('_tower').removesuffix('_model')}_learns"]} == learned


def filler_image() -> bytes:
    from PIL import Image

    from pathoflow.data.image_io import encode_png

    return encode_png(Image.new("RGB", (28, 28), "red"))


def test_adapters_learn_alone_and_are_merged_into_the_weights(model, encoder):
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    adapted = prepare_model(model, SftConfig(**LORA))
    learning = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert learning
    assert all("lora_" in name and "language_model" in name for name in learning)
    pack = packed([encoder.encode(Sample("A yellow lesion", [], "text"))], filler(encoder))
    optimizer = torch.optim.SGD([weight for weight in adapted.parameters() if weight.requires_grad], lr=10.0)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(**pack).backward()
        optimizer.step()
    loss = adapted(**pack).item()
    base, state = merge_adapters(adapted)
    assert adapted(**pack).item() == loss, "what training goes on with has changed"
    fresh = build_tiny_model(TinyShape(**TINY_SHAPE), encoder.processor.tokenizer, seed=9)
    fresh.load_state_dict(state | {"lm_head.weight": state["model.language_model.embed_tokens.weight"]})
    use_segment_attention(fresh)
    assert fresh(**pack).item() == pytest.approx(loss, rel=1e-5)
    assert state.keys() == before.keys()
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    assert changed
    assert all("_proj" in name and "language_model" in name for name in changed)
    assert base is model
    # PEFT's own merging, which leaves nothing to train on.
    for name, weight in adapted.merge_and_unload().named_parameters():
        assert torch.equal(weight, state[name]), name


def test_adapters_begin_as_the_seed_says_and_change_nothing(model, encoder):
    pack = packed([encoder.encode(Sample("A yellow lesion", [], "text"))], filler(encoder))
    use_segment_attention(model)
    before = model(**pack).item()
    beginnings = []
    for seed in (1, 1, 2):
        torch.rand(seed)
        fresh = build_tiny_model(TinyShape(**TINY_SHAPE), encoder.processor.tokenizer, seed=0)
        adapted = prepare_model(fresh, SftConfig(**LORA, seed=seed))
        assert adapted(**pack).item() == before
        beginnings.append(next(weight for name, weight in adapted.named_parameters() if "lora_A" in name))
    assert torch.equal(beginnings[0], beginnings[1])
    assert not torch.equal(beginnings[0], beginnings[2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freeze_merger": True, "freeze_language_model": True}, "leave nothing to learn"),
        ({"lora_rank": 2}, "set freeze_vision_tower and freeze_merger"),
        (LORA | {"deepspeed_stage": 3}, "exclude each other"),
        ({"pack_tokens": 1024}, "must not exceed pack_tokens"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        SftConfig(**values)


def test_liger_kernels_that_are_missing_or_have_no_gpu_are_told(model, monkeypatch):
    config = SftConfig(liger_kernels=True)
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(ConfigError, match=r"needs the package liger-kernel\. Install it or set it to false"):
        prepare_model(model, config)
    called = []
    stand_in = SimpleNamespace(apply_liger_kernel_to_qwen2_5_vl=lambda **options: called.append(options))
    monkeypatch.setitem(sys.modules, "liger_kernel", SimpleNamespace(transformers=stand_in))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", stand_in)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"needs a GPU\. Set it to false"):
        prepare_model(model, config)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    prepare_model(model, config)
    # The loss is computed by the model itself, for the positions that are learned alone.
    assert called[0]["fused_linear_cross_entropy"] is called[0]["cross_entropy"] is False
    assert called[0]["model"] is model


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_layers_give_the_same_loss_and_gradients(model, encoder):
    pack = packed([encoder.encode(Sample(text, [], "text")) for text in ("A yellow lesion", "lipoma")], filler(encoder))
    results = []
    for compiled in (False, True):
        model.zero_grad()
        loss = prepare_model(model, SftConfig(torch_compile=compiled))(**pack)
        loss.backward()
        results.append((loss.item(), model.model.language_model.layers[0].mlp.up_proj.weight.grad.clone()))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-5)
    assert torch.allclose(results[1][1], results[0][1], rtol=1e-4, atol=1e-6)
