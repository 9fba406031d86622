"""Which tokens are learned, how they are weighted, and how batches are padded."""

from __future__ import annotations

import pytest
import torch

from pathoflow.images import encode_jpeg
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.prompts import prompt_messages, text_message
from pathoflow.training.engine import weighted_loss
from pathoflow.training.samples import IGNORED, EncodedSamples, Encoder, Sample, conversation, prompt
from tests.conversations import patch

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
        assert encoder.length(sample) == len(encoder.encode(sample)["input_ids"])


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


def test_weighted_loss_is_the_usual_one_with_equal_weights():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    labels = torch.randint(0, 7, (2, 5), generator=generator)
    labels[0, :2] = IGNORED
    usual = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert torch.allclose(weighted_loss(logits, labels, torch.ones(2, 5)), usual)
    alone = torch.zeros(2, 5)
    alone[1, 3] = 4.0
    expected = torch.nn.functional.cross_entropy(logits[1, 3:4], labels[1, 3:4])
    assert torch.allclose(weighted_loss(logits, labels, alone), expected)
    assert weighted_loss(logits, torch.full_like(labels, IGNORED), torch.ones(2, 5)) == 0


def test_encoded_samples_are_kept_as_told(encoder):
    asked = []

    def sample_of(number: int) -> Sample:
        asked.append(number)
        return Sample(f"lipoma {number}", [], "text")

    samples = EncodedSamples([2, 0, 2], sample_of, encoder, num_cached=2)
    first, _, third = (samples[position] for position in range(len(samples)))
    assert asked == [2, 0]
    assert first is third
