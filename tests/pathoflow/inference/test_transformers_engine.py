"""A loaded model as an engine: responses in order, processes in step, and each image seen once."""

from __future__ import annotations

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pathoflow.data.image_io import encode_png
from pathoflow.inference import transformers_engine
from pathoflow.inference.protocol import Request
from pathoflow.inference.transformers_engine import RequestEncoder, TransformersEngine, rounds
from pathoflow.modeling.encoding import Encoder
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import prompt_messages, text_message
from tests.support.conversations import TINY_SHAPE
from tests.support.pairs import picture
from tests.support.published import publish


@pytest.fixture(scope="module")
def prompts():
    encoder = Encoder(
        new_processor(train_tokenizer(["A yellow lesion: lipoma.", "B melanoma"] * 4, 340), max_pixels=784)
    )
    return RequestEncoder(encoder, num_cached=100)


@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 17))
def test_all_processes_have_as_many_rounds_and_every_number_comes_once(num, num_processes, batch_size):
    dealt = [rounds(num, process, num_processes, batch_size) for process in range(num_processes)]
    assert len({len(own) for own in dealt}) == 1
    taken = [number for own in dealt for numbers in own for number in numbers]
    assert sorted(taken) == list(range(num))
    assert all(len(numbers) <= batch_size for own in dealt for numbers in own)
    # No round is idle everywhere.
    assert all(any(own[at] for own in dealt) for at in range(len(dealt[0])))


NUMBERED = [Request([text_message("user", "red " * (number % 7) + str(number))]) for number in range(40)]
WITH_IMAGES = [
    Request(prompt_messages(str(number), "short"), [encode_png(picture(number % 5, 28))]) for number in range(40)
]


class Echo(torch.nn.Module):
    """Stands in for a model: it repeats a prompt, and notes how it was called."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.calls = []
        self.lengths = []

    def generate(self, input_ids, attention_mask, generation_config, pixel_values=None, **_):
        assert pixel_values is not None
        assert not self.training
        self.calls.append((len(input_ids), generation_config.max_new_tokens))
        self.lengths.append(attention_mask.sum(dim=1).tolist())
        return torch.cat([input_ids, input_ids], dim=1)


def numbers_in(responses):
    return [int(re.findall(r"[0-9]+", response.text)[-1]) for response in responses]


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 11), st.booleans())
@settings(deadline=None)
def test_the_answers_of_all_processes_stand_in_the_requests_order(prompts, num, num_processes, batch_size, with_images):
    requests = (WITH_IMAGES if with_images else NUMBERED)[:num]
    models = [Echo() for _ in range(num_processes)]
    shares = []
    usual = transformers_engine.gather_object
    transformers_engine.gather_object = lambda own: shares.extend(own) or shares
    try:
        for process, model in enumerate(models):
            engine = TransformersEngine(
                model,
                prompts,
                max_new_tokens=7,
                batch_size=batch_size,
                process=process,
                num_processes=num_processes,
            )
            responses = engine.generate(requests)
            assert model.training
    finally:
        transformers_engine.gather_object = usual
    # The last process sees what all of them gathered.
    assert numbers_in(responses) == list(range(num))
    assert len({len(model.calls) for model in models}) == 1
    idle = [call for model in models for call in model.calls if call[1] == 1]
    assert all(size == 1 for size, _ in idle)


def test_the_longest_prompts_are_answered_first_and_with_their_like(prompts):
    model = Echo()
    TransformersEngine(model, prompts, max_new_tokens=7, batch_size=5).generate(NUMBERED)
    lengths = [len(prompts.encode(request)["input_ids"]) for request in NUMBERED]
    # The last row of each batch is the placeholder, since no request has an image.
    assert [length for batch in model.lengths for length in batch[:-1]] == sorted(lengths, reverse=True)
    assert lengths != sorted(lengths, reverse=True)


def test_a_model_answers_without_images_and_without_requests(prompts):
    model = build_tiny_model(TinyShape(**TINY_SHAPE), prompts.encoder.processor.tokenizer, seed=0)
    requests = [Request([text_message("user", text)]) for text in ("yellow", "a black lesion", "red")]

    def answers(asked, **how):
        return TransformersEngine(model, prompts, max_new_tokens=4, **how).generate(asked)

    together = answers(requests, batch_size=3)
    assert together == answers(requests, batch_size=1) == answers(requests)
    assert answers([]) == []
    # With more processes than requests, this one has no request and calls the model all the same.
    assert answers(requests, batch_size=3, process=3, num_processes=4) == []


def test_an_image_that_is_asked_about_several_times_goes_through_the_tower_once(prompts):
    model = build_tiny_model(TinyShape(**TINY_SHAPE), prompts.encoder.processor.tokenizer, seed=0)
    images = [encode_png(picture(number, 28)) for number in range(2)]
    requests = [Request(prompt_messages(f"lesion {number}", "short"), [images[number % 2]]) for number in range(8)]
    alone = [TransformersEngine(model, prompts, max_new_tokens=6).generate([request])[0] for request in requests]
    seen = []
    model.model.visual.patch_embed.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    for num_processes, num_patches in ((1, 2 * 4), (2, 2 * 4)):
        seen.clear()
        sizes = {"batch_size": 2, "num_processes": num_processes}
        responses = TransformersEngine(model, prompts, max_new_tokens=6, **sizes).generate(requests)
        if num_processes == 1:
            assert responses == alone
            assert sum(seen) == num_patches
        else:
            # Processes that share requests call the tower in each round, whatever they have seen.
            assert len(seen) == 2


def test_a_request_with_a_schema_is_refused(prompts):
    class Answer(BaseModel):
        organ: str

    request = Request([text_message("user", "red")], schema=Answer, name="q1")
    with pytest.raises(ValueError, match="'q1' wants JSON"):
        TransformersEngine(Echo(), prompts, max_new_tokens=1).generate([request])


def test_answers_are_greedy_whatever_settings_a_checkpoint_brings_along(prompts, tmp_path):
    publish(build_tiny_model(TinyShape(**TINY_SHAPE), prompts.encoder.processor.tokenizer, seed=0), tmp_path)
    request = Request([text_message("user", "A yellow lesion: lipoma.")])

    def answer() -> str:
        model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(tmp_path))
        (response,) = TransformersEngine(model, prompts, max_new_tokens=8).generate([request])
        return response.text

    usual = answer()
    file = tmp_path / "generation_config.json"
    # No token of the prompt or the answer may come again.
    file.write_text(json.dumps(json.loads(file.read_text()) | {"no_repeat_ngram_size": 1, "max_new_tokens": 2}))
    assert answer() == usual
