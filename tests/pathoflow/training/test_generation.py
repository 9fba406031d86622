"""How processes share prompts: as many calls of the model in each, and every prompt answered once, in order."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.training import generation
from pathoflow.training.generation import answer_all, rounds
from pathoflow.training.samples import Encoder, Sample
from tests.support.conversations import TINY_SHAPE
from tests.support.published import publish


@pytest.fixture(scope="module")
def encoder():
    return Encoder(new_processor(train_tokenizer(["A yellow lesion: lipoma.", "B melanoma"] * 4, 340), max_pixels=784))


@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 17))
def test_all_processes_have_as_many_rounds_and_every_number_comes_once(num, num_processes, batch_size):
    dealt = [rounds(num, process, num_processes, batch_size) for process in range(num_processes)]
    assert len({len(own) for own in dealt}) == 1
    taken = [number for own in dealt for numbers in own for number in numbers]
    assert sorted(taken) == list(range(num))
    assert all(len(numbers) <= batch_size for own in dealt for numbers in own)
    # No round is idle everywhere.
    assert all(any(own[at] for own in dealt) for at in range(len(dealt[0])))


class Echo(torch.nn.Module):
    """Stands in for a model: it answers a prompt with its first token, and notes how it was called."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.calls = []

    def generate(self, input_ids, attention_mask, generation_config, pixel_values=None, **_):
        assert pixel_values is not None
        assert not self.training
        self.calls.append((len(input_ids), generation_config.max_new_tokens))
        first = attention_mask.argmax(dim=1)
        return torch.cat([input_ids, input_ids.gather(1, first.unsqueeze(1))], dim=1)


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 11), st.booleans())
def test_the_answers_of_all_processes_stand_in_the_prompts_order(encoder, num, num_processes, batch_size, with_images):
    image = {"pixel_values": torch.zeros(4, 1), "image_grid_thw": torch.tensor([[1, 2, 2]])} if with_images else {}
    words = [encoder.processor.tokenizer(str(number % 10))["input_ids"] for number in range(num)]

    def encoded(number):
        ids = torch.tensor(words[number])
        return {"input_ids": ids, "labels": ids, "weights": torch.ones(len(ids)), **image}

    models = [Echo() for _ in range(num_processes)]
    shares = []
    usual = generation.gather_object
    generation.gather_object = lambda own: shares.extend(own) or shares
    try:
        for process, model in enumerate(models):
            answers = answer_all(
                model,
                encoder,
                encoded,
                num,
                process=process,
                num_processes=num_processes,
                batch_size=batch_size,
                max_new_tokens=7,
            )
            assert model.training
    finally:
        generation.gather_object = usual
    # The last process sees what all of them gathered.
    assert answers == [str(number % 10) for number in range(num)]
    assert len({len(model.calls) for model in models}) == 1
    idle = [call for model in models for call in model.calls if call[1] == 1]
    assert all(size == 1 for size, _ in idle)


def test_a_model_answers_without_images_and_without_prompts(encoder):
    model = build_tiny_model(TinyShape(**TINY_SHAPE), encoder.processor.tokenizer, seed=0)
    prompts = [encoder.encode(Sample(text, [], "text")) for text in ("yellow", "a black lesion", "red")]
    sizes = {"process": 0, "num_processes": 1, "max_new_tokens": 4}
    together = answer_all(model, encoder, prompts.__getitem__, 3, batch_size=3, **sizes)
    assert together == answer_all(model, encoder, prompts.__getitem__, 3, batch_size=1, **sizes)
    assert answer_all(model, encoder, prompts.__getitem__, 0, batch_size=3, **sizes) == []
    # With more processes than prompts, this one has no prompt and calls the model all the same.
    sizes["process"], sizes["num_processes"] = 3, 4
    assert answer_all(model, encoder, prompts.__getitem__, 3, batch_size=3, **sizes) == []


def test_answers_are_greedy_whatever_settings_a_checkpoint_brings_along(encoder, tmp_path):
    tokenizer = encoder.processor.tokenizer
    publish(build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0), tmp_path)
    prompt = encoder.encode(Sample("A yellow lesion: lipoma.", [], "text"))

    def answer() -> str:
        model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(tmp_path))
        how = {"process": 0, "num_processes": 1, "batch_size": 1, "max_new_tokens": 8}
        (text,) = answer_all(model, encoder, lambda _: prompt, 1, **how)
        return text

    usual = answer()
    file = tmp_path / "generation_config.json"
    # No token of the prompt or the answer may come again.
    file.write_text(json.dumps(json.loads(file.read_text()) | {"no_repeat_ngram_size": 1, "max_new_tokens": 2}))
    assert answer() == usual
