"""Faster looking changes nothing: batches padded on the left, their gradients and what is generated from them."""

from __future__ import annotations

import copy

import pytest
import torch

from components.training.rl.worker import look_fast
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from tests.support.conversations import TINY_SHAPE
from tests.support.pairs import picture

# The first block of the vision tower attends within windows of 112 px.
SHAPE = TinyShape(**TINY_SHAPE | {"vision_depth": 2, "num_layers": 2})
PICTURES = [picture(1, 168), picture(2, 56), picture(1, 168), picture(3, 252).crop((0, 0, 252, 140))]


@pytest.fixture(scope="module")
def processor():
    made = new_processor(train_tokenizer(["A yellow lesion: lipoma."] * 4, 340), max_pixels=28 * 28 * 90)
    made.tokenizer.padding_side = "left"
    return made


@pytest.fixture(scope="module")
def models(processor):
    """With stock attention, and with the stage's."""
    plain = build_tiny_model(SHAPE, processor.tokenizer, seed=0).eval()
    fast = copy.deepcopy(plain)
    look_fast(fast, None)
    return plain, fast


@pytest.fixture(scope="module")
def batch(processor):
    texts = [f"{IMAGE}lesion {'yellow ' * number}" for number in range(len(PICTURES))]
    made = dict(processor(images=PICTURES, text=texts, return_tensors="pt", padding=True))
    assert (made["attention_mask"][:, 0] == 0).any()
    return made


def test_probabilities_and_gradients_are_those_of_the_stock_model(models, batch):
    found = []
    for model in models:
        model.zero_grad()
        logits = model(**batch).logits[:, :-1]
        chosen = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        chosen = chosen[batch["attention_mask"][:, :-1] == 1]
        chosen.sum().backward()
        found.append((chosen.detach(), {name: weight.grad for name, weight in model.named_parameters()}))
    assert torch.allclose(found[0][0], found[1][0], rtol=0, atol=1e-5)
    for name, gradient in found[0][1].items():
        assert torch.allclose(gradient, found[1][1][name], rtol=1e-4, atol=1e-5 * gradient.abs().max().item()), name


def test_the_same_tokens_are_generated_from_a_cache(models, batch):
    answers = [model.generate(**batch, do_sample=False, min_new_tokens=12, max_new_tokens=12) for model in models]
    assert answers[0].shape[1] == batch["input_ids"].shape[1] + 12
    assert torch.equal(*answers)


def test_all_windows_of_a_batch_are_one_call(models, batch, monkeypatch):
    calls = []
    usual = torch.nn.functional.scaled_dot_product_attention

    def counting(query, *rest, **named):
        calls.append(query.shape)
        return usual(query, *rest, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    numbers = []
    for model in models:
        calls.clear()
        with torch.no_grad():
            model.model.visual(batch["pixel_values"], grid_thw=batch["image_grid_thw"])
        numbers.append(len(calls))
    # One for each run of windows of one size, not for each window, and of the three images that differ.
    assert numbers[1] < numbers[0] / 2
