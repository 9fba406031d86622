"""The table of samples shows images, text, and which tokens are learned."""

from __future__ import annotations

import pytest

from pathoflow.data.image_io import encode_jpeg
from pathoflow.modeling.encoding import Encoder, Sample
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.training.sample_tables import table
from tests.support.conversations import patch


@pytest.fixture(scope="module")
def encoder():
    return Encoder(new_processor(train_tokenizer(["A yellow lesion: lipoma."] * 4, 340), max_pixels=3136))


def test_a_row_shows_the_image_the_text_and_the_mask(encoder):
    image = encode_jpeg(patch("lipoma").resize((56, 56)))
    samples = [
        Sample(IMAGE + "A <lesion>", [image], "text", name="book/1"),
        Sample("given ", [], "continuation", continuation="learned", weight=5.0),
    ]
    page = table(samples, encoder, "Step 1")
    assert "[4 image tokens]" in page
    assert "<mark>A &lt;lesion&gt;</mark>" in page
    assert 'given <mark class=heavy title="weight 5">learned</mark>' in page
    assert 'title="56 x 56 px" src="data:image/png;base64,' in page
    assert "book/1" in page
    assert page == table(samples, encoder, "Step 1")
