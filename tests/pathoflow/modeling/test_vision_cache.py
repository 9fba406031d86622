"""Images that repeat go through the vision tower once, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from PIL import Image

from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.modeling.vision_cache import VisionFeatureCache
from tests.support.conversations import TINY_SHAPE
from tests.support.pairs import picture


@pytest.fixture(scope="module")
def processor():
    return new_processor(train_tokenizer(["A yellow lesion: lipoma."] * 4, 340), max_pixels=28 * 28 * 12)


def results(model, batch):
    model.zero_grad()
    logits = model(**batch).logits
    logits.square().mean().backward()
    return [logits.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]


# By number: the same picture; another one; one with other patches in the same number; one in another shape.
PICTURES = [picture(1, 56), picture(2, 56), picture(1, 56).rotate(90), picture(1, 112).crop((0, 0, 112, 56))]


@pytest.mark.parametrize(
    ("numbers", "num_seen"), [([0, 1, 0, 3, 0, 1, 2], 4), ([0, 1, 2, 3], 4), ([1], 1), ([3, 3, 3], 1)]
)
def test_it_sees_each_image_once(processor, numbers, num_seen):
    plain = build_tiny_model(TinyShape(**TINY_SHAPE), processor.tokenizer, seed=0)
    hooked = copy.deepcopy(plain)
    VisionFeatureCache(hooked.model.visual).install()
    images = [PICTURES[number] for number in numbers]
    texts = [f"{IMAGE}lesion {number}" for number in range(len(images))]
    batch = dict(processor(images=images, text=texts, return_tensors="pt", padding=True))
    # A copy, as for a model of reference, has hooks of its own.
    for model in (hooked, copy.deepcopy(hooked)):
        seen = []
        model.model.visual.patch_embed.register_forward_hook(
            lambda _, inputs, __, seen=seen: seen.append(len(inputs[0]))
        )
        for one, other in zip(results(plain, batch), results(model, batch), strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
        sizes = batch["image_grid_thw"].prod(dim=1).tolist()
        assert seen == [sum(sizes[numbers.index(number)] for number in set(numbers))]
        assert len(set(numbers)) == num_seen


def test_images_of_one_sum_are_told_apart(processor):
    black, white = Image.new("RGB", (28, 28), "black"), Image.new("RGB", (28, 28), "white")
    pictures = []
    for parts in ((black, white), (white, black)):
        whole = Image.new("RGB", (56, 28))
        for number, part in enumerate(parts):
            whole.paste(part, (28 * number, 0))
        pictures.append(whole)
    model = build_tiny_model(TinyShape(**TINY_SHAPE), processor.tokenizer, seed=0)
    VisionFeatureCache(model.model.visual).install()
    batch = dict(processor(images=pictures, text=[IMAGE, IMAGE], return_tensors="pt", padding=True))
    first, second = model(**batch).logits
    assert not torch.allclose(first, second)


def test_features_are_kept_between_calls_up_to_the_limit(processor):
    model = build_tiny_model(TinyShape(**TINY_SHAPE), processor.tokenizer, seed=0)
    seen = []
    model.model.visual.patch_embed.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))

    def logits(*numbers):
        images, texts = [PICTURES[number] for number in numbers], [f"{IMAGE}lesion {number}" for number in numbers]
        with torch.inference_mode():
            return model(**processor(images=images, text=texts, return_tensors="pt", padding=True)).logits

    plain = [logits(0, 1), logits(1, 2), logits(2, 2), logits(0)]
    seen.clear()
    # Pictures 0 to 2 have 16 patches, which are 4 tokens, each.
    with VisionFeatureCache(model.model.visual, kept_tokens=8):
        cached = [logits(0, 1), logits(1, 2), logits(2, 2), logits(0)]
    assert seen == [32, 16, 16]
    for one, other in zip(plain, cached, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    seen.clear()
    logits(0, 0)
    assert seen == [32]
