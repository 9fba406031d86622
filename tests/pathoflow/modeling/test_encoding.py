"""Which tokens are learned, how they are weighted, and how batches are padded."""

from __future__ import annotations

import dataclasses
import io

import pytest
import torch
from PIL import Image

from pathoflow.data.image_io import encode_jpeg
from pathoflow.errors import InputError
from pathoflow.modeling.encoding import IGNORED, Encoder, Sample, conversation, prompt
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.qa.prompts import prompt_messages, text_message
from tests.support.conversations import patch

IMAGES = [encode_jpeg(patch("lipoma"))]


@pytest.fixture(scope="module")
def processor():
    return new_processor(train_tokenizer(["A yellow lesion: lipoma.", "B melanoma"] * 4, 340), max_pixels=784)


@pytest.fixture(scope="module")
def encoder(processor):
    return Encoder(processor)


def learned(encoder, encoded) -> str:
    """The text of the tokens that count."""
    return encoder.processor.tokenizer.decode(encoded["input_ids"][encoded["labels"] != IGNORED])


def test_a_caption_is_learned_whole_without_its_image(encoder):
    encoded = encoder.encode(Sample(IMAGE + "A yellow lesion.<|im_end|>", IMAGES, "text"))
    assert learned(encoder, encoded) == "A yellow lesion.<|im_end|>"
    assert (encoded["input_ids"] == encoder.image_token_id).sum() == 1
    assert encoded["pixel_values"].shape == (4, 1176)


def test_only_the_assistants_turns_are_learned(encoder, processor):
    messages = [
        *prompt_messages("A lipoma", "short"),
        text_message("assistant", "<think>yellow</think><answer>A</answer>"),
        text_message("user", "assistant B?"),
        text_message("assistant", "no"),
    ]
    encoded = encoder.encode(conversation(messages, IMAGES, processor))
    assert learned(encoder, encoded) == "<think>yellow</think><answer>A</answer><|im_end|>no<|im_end|>"


def test_a_turn_that_begins_with_an_empty_line_is_learned():
    tokenizer = train_tokenizer(["A\n\nB\n\nC\n\nlipoma"] * 9, 340)
    assert len(tokenizer("\n\n")["input_ids"]) == 1, "its first newline and the template's are one token"
    encoder = Encoder(new_processor(tokenizer, max_pixels=784))
    messages = [text_message("user", "A"), text_message("assistant", "\nlipoma")]
    encoded = encoder.encode(conversation(messages, [], encoder.processor))
    assert learned(encoder, encoded) == "lipoma<|im_end|>"


def test_a_prompt_ends_where_the_assistant_speaks_and_a_continuation_alone_is_learned(encoder, processor):
    sample = prompt(prompt_messages("A lipoma", "short"), IMAGES, processor)
    assert sample.text.endswith("<|im_start|>assistant\n")
    assert learned(encoder, encoder.encode(sample)) == ""
    assert learned(encoder, encoder.encode(Sample("A lipoma ", [], "continuation", continuation="A"))) == "A"


def test_answers_weigh_what_they_are_told(processor):
    encoder = Encoder(processor, answer_weight=7.0)
    messages = [*prompt_messages("A lipoma", "short"), text_message("assistant", "<think>B</think><answer>A</answer>")]
    encoded = encoder.encode(conversation(messages, IMAGES, processor))
    heavy = encoded["input_ids"][encoded["weights"] == 7.0]
    assert processor.tokenizer.decode(heavy) == "A"


def test_images_must_fit_their_places(encoder):
    with pytest.raises(ValueError, match="2 places for 1 images"):
        encoder.encode(Sample(IMAGE + IMAGE, IMAGES, "text"))


def test_lengths_are_those_of_the_encoded_samples():
    processor = new_processor(train_tokenizer(["A yellow lesion: lipoma."] * 4, 340), max_pixels=56 * 56)
    encoder = Encoder(processor)
    large = encode_jpeg(patch("lipoma").resize((200, 90)))
    for sample in (
        Sample(IMAGE + "lipoma" + IMAGE, [large, IMAGES[0]], "text"),
        Sample("A lipoma ", [], "continuation", continuation="A"),
    ):
        ((num_tokens, patches),) = encoder.measure([sample])
        assert num_tokens == len(encoder.encode(sample)["input_ids"])
        assert len(patches) == len(sample.images)
        sizes = [Image.open(io.BytesIO(data)).size for data in sample.images]
        assert encoder.measure([dataclasses.replace(sample, images=[], sizes=sizes)]) == [(num_tokens, patches)]


def test_a_broken_image_is_named(encoder):
    sample = Sample(IMAGE + "lipoma", [IMAGES[0][:-20]], "text", name="book/page 7")
    with pytest.raises(InputError, match=r"'book/page 7' cannot be learned from.*corrupt_image"):
        encoder.encode(sample)


@pytest.mark.parametrize("left", [False, True])
def test_batches_are_padded_on_the_side_asked_for(encoder, left):
    short = encoder.encode(Sample("lipoma", [], "text"))
    long = encoder.encode(Sample(IMAGE + "A yellow lesion: lipoma.", IMAGES, "text"))
    batch = encoder.batch([short, long], left=left)
    num = len(short["input_ids"])
    where = slice(-num, None) if left else slice(0, num)
    assert batch["attention_mask"][0].sum() == num
    assert torch.equal(batch["input_ids"][0, where], short["input_ids"])
    assert (batch["labels"][0][batch["attention_mask"][0] == 0] == IGNORED).all()
    assert torch.equal(batch["mm_token_type_ids"] == 1, batch["input_ids"] == encoder.image_token_id)
    assert batch["pixel_values"].shape[0] == 4


def test_a_batch_without_images_has_no_pixels(encoder):
    assert "pixel_values" not in encoder.batch([encoder.encode(Sample("lipoma", [], "text"))])
