"""Which weights learn: parts are frozen, adapters are merged at the end."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from components.training.sft.config import SftConfig
from pathoflow.modeling.learning import learner, learning_parts, merged
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.shape import TinyShape
from pathoflow.modeling.tiny import build_tiny_model
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.training.samples import Encoder, Sample
from pathoflow.training.steps import filler, packed
from tests.conversations import TINY_SHAPE

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
    model = learner(model, SftConfig(**{f"freeze_{part}": part in frozen for part in parts}))
    sample = encoder.encode(Sample("A yellow lesion", [], "text"))
    image = encoder.encode(Sample(f"{IMAGE}lipoma", [filler_image()], "text"))
    model(**packed([sample, image], filler(encoder))).backward()
    learned = {part_of(name) for name, weight in model.named_parameters() if weight.grad is not None}
    assert learned == set(parts) - set(frozen)
    flags = learning_parts(model)
    assert {part for part in parts if flags[f"{part.removesuffix('_tower').removesuffix('_model')}_learns"]} == learned


def filler_image() -> bytes:
    from PIL import Image

    from pathoflow.images import encode_png

    return encode_png(Image.new("RGB", (28, 28), "red"))


def test_adapters_learn_alone_and_are_merged_into_the_weights(model, encoder):
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    adapted = learner(model, SftConfig(**LORA))
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
    plain, state = merged(adapted)
    assert state is None
    assert plain(**pack).item() == pytest.approx(loss, rel=1e-5)
    after = dict(plain.named_parameters())
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all("_proj" in name and "language_model" in name for name in changed)


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
