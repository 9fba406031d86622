"""The stage that builds what the demo starts from."""

from __future__ import annotations

import json

import pytest

from components.training.base_model.config import BaseModelConfig
from components.training.base_model.stage import run
from pathoflow.errors import InputError
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import load_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from tests.support.base_models import build_base_model
from tests.support.conversations import TINY_SHAPE, write_colour_corpus, write_reasoning
from tests.support.pairs import contents, new_output, pair, write_corpus


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    where = tmp_path_factory.mktemp("texts")
    return write_colour_corpus(where / "corpus"), write_reasoning(where / "reasoning")


def test_the_same_texts_and_seed_make_the_same_bytes(texts, tmp_path):
    first, second, other = (
        build_base_model(tmp_path / name, *texts, num_lookups=20, seed=seed)
        for name, seed in (("first", 1), ("second", 1), ("other", 2))
    )
    assert contents(first) == contents(second)
    for name in ("model/model.safetensors", "lookups.jsonl"):
        assert (first / name).read_bytes() != (other / name).read_bytes()


def test_the_model_loads_with_the_vocabulary_that_was_learned(texts, tmp_path):
    built = build_base_model(tmp_path, *texts)
    model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(built / "model"))
    tokenizer = load_processor(built / "model").tokenizer
    assert 288 < len(tokenizer) == model.config.text_config.vocab_size <= TINY_SHAPE["vocabulary_size"]
    assert (built / "lookups.jsonl").read_text() == ""


def test_each_lookup_has_its_question_and_one_letter_to_find(texts, tmp_path):
    built = build_base_model(tmp_path, *texts, num_lookups=30)
    lookups = [json.loads(line) for line in (built / "lookups.jsonl").read_text().splitlines()]
    assert len(lookups) == 30
    for lookup in lookups:
        assert lookup["messages"][0]["role"] == "user"
        assert lookup["given"].endswith("<answer>")
        assert lookup["letter"] in "ABCD"


def test_captions_that_cannot_be_learned_shape_no_vocabulary(texts, tmp_path):
    corpus, reasoning = texts
    odd = [pair("marked", "A <|image_pad|> lesion."), pair("silent", " ")]
    write_colour_corpus(tmp_path / "odd", faulty=odd)
    sound = build_base_model(tmp_path / "sound", corpus, reasoning)
    assert contents(build_base_model(tmp_path, tmp_path / "odd", reasoning)) == contents(sound)


def test_questions_without_a_letter_to_find_are_an_input_error(texts, tmp_path):
    corpus, _ = texts
    write_reasoning(tmp_path / "reasoning", num_train=0)
    config = BaseModelConfig(shape=TINY_SHAPE, num_lookups=1)
    with pytest.raises(InputError, match=r"Set base_model\.num_lookups to 0"):
        run(config, corpus=corpus, reasoning_data=tmp_path / "reasoning", out=new_output(tmp_path / "out"))


def test_no_text_at_all_is_an_input_error(tmp_path):
    write_corpus(tmp_path / "corpus")
    write_reasoning(tmp_path / "reasoning", num_train=0)
    inputs = {"corpus": tmp_path / "corpus", "reasoning_data": tmp_path / "reasoning"}
    with pytest.raises(InputError, match="no text to learn a vocabulary from"):
        run(BaseModelConfig(shape=TINY_SHAPE), **inputs, out=new_output(tmp_path / "out"))
