"""A sample in a pack gives the loss and the gradients that it gives alone, whoever its neighbours are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pathoflow.data.image_io import encode_png
from pathoflow.modeling.attention import use_segment_attention
from pathoflow.modeling.encoding import IGNORED, Encoder, Sample, filler
from pathoflow.modeling.positions import multimodal_positions
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import IMAGE, IMAGE_PAD, train_tokenizer
from pathoflow.training.plan import Plan
from pathoflow.training.steps import StepShares, packed

SHAPE = TinyShape(
    vocabulary_size=340,
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    intermediate_size=48,
    vision_depth=2,
    vision_hidden_size=32,
    vision_num_heads=2,
    vision_intermediate_size=48,
)


def picture(width: int, height: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return encode_png(Image.fromarray(pixels))


SAMPLES = [
    Sample(IMAGE + "A yellow lesion: lipoma.", [picture(84, 56, 1)], "text"),
    Sample("B melanoma, which is black and has no image.", [], "text", weight=3.0),
    Sample(f"One {IMAGE} and two {IMAGE} and three {IMAGE}", [picture(56, 56, n) for n in (2, 3, 4)], "text"),
    # Wider than a window of the vision tower.
    Sample(IMAGE + "large", [picture(168, 140, 5)], "text"),
    Sample("A", [], "continuation", continuation=" lipoma"),
]


@pytest.fixture(scope="module")
def encoder():
    return Encoder(
        new_processor(train_tokenizer(["A yellow lesion: lipoma.", "B melanoma"] * 4, 340), max_pixels=28**2 * 40)
    )


@pytest.fixture(scope="module")
def model(encoder):
    return use(build_tiny_model(SHAPE, encoder.processor.tokenizer, seed=0))


@pytest.fixture(scope="module")
def stock(encoder):
    """The same model with stock attention and one sample in each batch."""
    return build_tiny_model(SHAPE, encoder.processor.tokenizer, seed=0)


def use(model):
    use_segment_attention(model)
    return model


@pytest.fixture(scope="module")
def encoded(encoder):
    return [encoder.encode(sample) for sample in SAMPLES]


def alone(stock, encoder, sample):
    """The weighted sum of a sample's losses, as the stock model gives it, with its own positions and mask."""
    batch = encoder.batch([sample])
    labels, weights = batch.pop("labels")[0, 1:], batch.pop("weights")[0, 1:]
    logits = stock(**batch).logits[0, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return (losses * weights).sum()


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_a_packs_loss_and_gradients_are_those_of_its_samples(model, stock, encoder, encoded):
    loss = model(**packed(encoded, filler(encoder)))
    expected = sum(alone(stock, encoder, sample) for sample in encoded)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    ours, theirs = gradients(model, loss), gradients(stock, expected)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_each_sample_loses_what_it_loses_alone(model, stock, encoder, encoded, number):
    in_pack = [dict(sample) for sample in encoded]
    for other, sample in enumerate(in_pack):
        if other != number:
            sample["labels"] = torch.full_like(sample["labels"], IGNORED)
    loss = model(**packed(in_pack, filler(encoder)))
    expected = alone(stock, encoder, encoded[number])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    ours, theirs = gradients(model, loss), gradients(stock, expected)
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-5), name


def test_in_bfloat16_they_agree_as_far_as_it_goes(model, stock, encoder, encoded):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**packed(encoded, filler(encoder)))
        expected = sum(alone(stock, encoder, sample) for sample in encoded)
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)
    ours, theirs = gradients(model, loss), gradients(stock, expected)
    for name, gradient in ours.items():
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), theirs[name].flatten(), dim=0) > 0.99, name


def test_a_neighbour_changes_nothing(model, encoder, encoded):
    """Bitwise: the last layer's output for a sample, whatever lies before and behind it."""
    outputs = []
    for neighbours in ((1, 2), (3, 1)):
        pack = packed([encoded[neighbours[0]], encoded[0], encoded[neighbours[1]]], filler(encoder))
        inputs = {key: value for key, value in pack.items() if not key.startswith("target")}
        start, end = pack["cu_seq_lens_q"][1:3].tolist()
        with torch.no_grad():
            outputs.append(model(**inputs).logits[0, start:end])
    assert torch.allclose(*outputs, rtol=0, atol=1e-6)


def test_a_pack_without_image_gets_one_that_teaches_nothing(model, stock, encoder, encoded):
    pack = packed([encoded[1]], filler(encoder))
    loss = model(**pack)
    assert pack["pixel_values"].shape[0] == 4 * (pack["input_ids"] == encoder.image_token_id).sum()
    assert loss.item() == pytest.approx(alone(stock, encoder, encoded[1]).item(), rel=1e-6)
    vision = {name: grad for name, grad in gradients(model, loss).items() if "visual" in name}
    assert vision
    assert all((gradient == 0).all() for gradient in vision.values())


def test_an_empty_pack_is_a_filler_with_no_loss(model, encoder):
    loss = model(**packed([], filler(encoder)))
    assert loss.item() == 0
    assert all((gradient == 0).all() for gradient in gradients(model, loss).values())


def test_logits_in_several_parts_are_the_same(model, encoder, encoded, monkeypatch):
    pack = packed(encoded, filler(encoder))
    whole = model(**pack)
    theirs = gradients(model, whole)
    monkeypatch.setattr("pathoflow.modeling.qwen2_5_vl.ROWS_AT_A_TIME", 7)
    parts = model(**pack)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)
    for name, gradient in gradients(model, parts).items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-4, atol=1e-6), name


words = st.text("ab ", min_size=0, max_size=12)


@given(st.lists(st.tuples(words, st.integers(1, 5), st.integers(1, 5)), max_size=4), words)
def test_positions_are_the_models_own(stock, encoder, images, end):
    text = "".join(before + "<|vision_start|>" + IMAGE_PAD * (rows * columns) for before, rows, columns in images)
    ids = torch.tensor(encoder.processor.tokenizer(text + "." + end)["input_ids"])
    grid = torch.tensor([[1, 2 * rows, 2 * columns] for _, rows, columns in images]).reshape(-1, 3)
    types = (ids == encoder.image_token_id).int()
    expected, _ = stock.model.get_rope_index(ids[None], types[None], grid)
    assert torch.equal(multimodal_positions(ids, grid, encoder.image_token_id, 2), expected[:, 0])


def test_shares_hold_every_sample_once(encoder, encoded):
    lengths = np.array([len(sample["input_ids"]) for sample in encoded])
    plan = Plan(np.arange(5), lengths, lengths.astype(float), 4, 2, num_processes=2, pack_tokens=60, min_rounds=2)
    asked = []

    def sample_of(number: int) -> Sample:
        asked.append(number)
        return SAMPLES[number]

    shares = StepShares(plan, sample_of, encoder, num_cached=8)
    assert len(shares) == 4
    steps = [[shares[2 * step + process] for process in range(2)] for step in range(2)]
    assert sorted(asked) == list(range(5))
    assert [sum(share["num_tokens"] for share in step) for step in steps] == [plan.num_tokens(0), plan.num_tokens(1)]
    # One sample is left for the second step: three of its four packs are fillers.
    assert [len(pack["targets"]) > 0 for share in steps[1] for pack in share["packs"]].count(True) == 1
    shares[0]
    assert len(asked) == 5, "cached samples are encoded again"
    weight = sum(share["weight"] for share in steps[0])
    assert weight == sum(encoded[n]["weights"][1:][encoded[n]["labels"][1:] != IGNORED].sum() for n in range(4))
