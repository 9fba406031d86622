"""A sample whose image turns out to be broken keeps its place, teaches nothing, and is told of if it was met."""

from __future__ import annotations

import numpy as np
import pytest

from pathoflow.data.image_io import encode_jpeg
from pathoflow.modeling.encoding import Encoder, Sample, UnlearnableImage
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.training.plan import Plan
from pathoflow.training.steps import StepShares
from pathoflow.training.unseen import Unseen, stand_in
from tests.support.odd import BROKEN_WITHIN
from tests.support.pairs import picture

SOUND = encode_jpeg(picture(1, 128))
SAMPLES = [Sample(IMAGE + "lipoma", [image], "text", name=name) for name, image in (("a", SOUND), ("b", BROKEN_WITHIN))]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(new_processor(train_tokenizer(["lipoma"] * 4, 300), max_pixels=56 * 56))


@pytest.fixture
def plan(encoder) -> Plan:
    lengths = np.array([length for length, _ in encoder.measure(SAMPLES)])
    return Plan(np.array([0, 1]), lengths, lengths.astype(float), 1, 2, 1, 100)


def test_it_is_noted_and_has_no_weight(encoder, plan, tmp_path):
    unseen = Unseen(tmp_path / "unseen")
    shares = StepShares(plan, SAMPLES.__getitem__, encoder, unseen=unseen)
    sound, broken = shares[0], shares[1]
    assert sound["weight"] > 0
    assert broken["weight"] == 0
    assert broken["num_tokens"] == sound["num_tokens"] == plan.lengths[1]
    assert broken["packs"][0]["pixel_values"].shape == sound["packs"][0]["pixel_values"].shape
    ((name, reason, detail),) = unseen.among([0, 1])
    assert (name, reason) == ("b", "corrupt_image")
    assert "128 x 128 px PNG" in detail


def test_what_was_prepared_and_not_learned_is_not_told(encoder, plan, tmp_path):
    unseen = Unseen(tmp_path / "unseen")
    # A data worker is a step ahead.
    StepShares(plan, SAMPLES.__getitem__, encoder, unseen=unseen)[1]
    assert plan.samples_until(1) == [0]
    assert unseen.among(plan.samples_until(1)) == []
    assert len(unseen.among(plan.samples_until(2))) == 1


def test_without_notes_it_is_an_error(encoder, plan):
    with pytest.raises(UnlearnableImage, match="corrupt_image"):
        StepShares(plan, SAMPLES.__getitem__, encoder)[1]


def test_the_stand_in_is_as_long_even_if_images_differ(encoder):
    sample = Sample(f"{IMAGE}and{IMAGE}", [BROKEN_WITHIN, encode_jpeg(picture(2).resize((200, 30)))], "text")
    assert encoder.measure([stand_in(sample)]) == encoder.measure([sample])
    assert len(encoder.encode(stand_in(sample))["input_ids"]) == encoder.measure([sample])[0][0]
