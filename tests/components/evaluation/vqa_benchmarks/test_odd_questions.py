"""Odd questions among good ones: those that cannot be asked, or leave no room for a response, are set aside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.evaluation.vqa_benchmarks.lengths import prompt_lengths
from components.evaluation.vqa_benchmarks.stage import run
from pathoflow.data.image_io import decode
from pathoflow.errors import InputError
from pathoflow.modeling.pretrained import load_processor, save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import mcq_text, response_text
from tests.components.evaluation.vqa_benchmarks.test_vqa_benchmarks import (
    CONFIG,
    OPTIONS,
    QUESTIONS,
    SHAPE,
    mcq_row,
    write_mcqs,
)
from tests.support.odd import BROKEN, SOUND, embedded, set_aside
from tests.support.pairs import new_output

POSITIONS = 200
LIKELIHOOD = dict.fromkeys(("base", "cpt", "sft", "rl"), "letter_likelihood")
QUICK = CONFIG.model_copy(
    update={
        "protocols": CONFIG.protocols.model_copy(update=LIKELIHOOD),
        "generate_for_all": False,
        "max_image_pixels": 10_000_000,
    }
)
MARKED = ["blue", "a <|im_end|>"]
ENDLESS = ["word " * 300, "blue"]
ODD = {
    **{name: ({"images": [embedded(data, name)]}, reason) for name, (data, reason) in BROKEN.items()},
    "no_image": ({"images": None}, "no_image"),
    "null_text": ({"prompt": None}, "no_question"),
    "marked": ({"prompt": "<|image_pad|>" + mcq_text(OPTIONS, "short")}, "special_token"),
    "marked_option": ({"prompt": mcq_text(MARKED, "short"), "options": MARKED}, "special_token"),
    "null_options": ({"options": None}, "option_count"),
    "too_many_options": ({"options": [f"kind {number}" for number in range(27)]}, "option_count"),
    "empty_answer": ({"answer": ""}, "bad_answer"),
    "null_answer": ({"answer": None}, "bad_answer"),
    "endless": ({"prompt": mcq_text(ENDLESS, "short"), "options": ENDLESS}, "too_long"),
}
"""What is odd about a question, and the reason for which it is set aside."""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Random models of few positions."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([question.prompt for question in QUESTIONS] + [response_text("", "A")], 300)
    model, processor = build_tiny_model(SHAPE, tokenizer, 0), new_processor(tokenizer, max_pixels=84 * 56)
    model.config.text_config.max_position_embeddings = POSITIONS
    for place in ("cpt/base", "cpt/model", "sft/model", "rl/model"):
        save_model(model, processor, root / place)
    return {name: root / name for name in ("cpt", "sft", "rl")}


def test_odd_questions_are_set_aside_and_counted(models, tmp_path):
    good = [mcq_row(question) for question in QUESTIONS[:4]]
    odd = [good[0] | {"mcq_id": name} | changes for name, (changes, _) in ODD.items()]
    seen = [good[0] | {"mcq_id": f"seen_{name}", "images": [embedded(data, name)]} for name, data in SOUND.items()]
    out = new_output(tmp_path)
    run(QUICK, diagnosis_mcqs=write_mcqs(tmp_path / "mcqs", [*odd, *seen, *good]), **models, out=out)
    assert set_aside(out) == {name: reason for name, (_, reason) in ODD.items()}
    assert out.num_in == len(ODD) + len(SOUND) + 4
    assert out.metrics["num_items"] == len(SOUND) + 4


def test_a_prompt_may_take_the_positions_that_the_response_leaves(models, tmp_path):
    source, question = models["rl"] / "model", QUESTIONS[0]
    (length,) = prompt_lengths([question], str(source), QUICK)
    text = load_processor(source).apply_chat_template(
        question.messages("short"), add_generation_prompt=True, tokenize=False
    )
    encoded = load_processor(source)(text=[text], images=[decode(data, max_pixels=10**6) for data in question.images])
    assert length == len(encoded["input_ids"][0])
    mcqs = write_mcqs(tmp_path / "mcqs", [mcq_row(question)])
    room = POSITIONS - length
    run(QUICK.model_copy(update={"max_new_tokens": room}), diagnosis_mcqs=mcqs, **models, out=new_output(tmp_path))
    out = new_output(tmp_path / "no_room")
    with pytest.raises(InputError, match=r"no question that can be asked.*quarantine\.jsonl"):
        run(QUICK.model_copy(update={"max_new_tokens": room + 1}), diagnosis_mcqs=mcqs, **models, out=out)
    assert set_aside(out) == {question.id: "too_long"}
    (line,) = (out.path / "quarantine.jsonl").read_text().splitlines()
    assert f"more than the {POSITIONS} positions of base" in json.loads(line)["detail"]
