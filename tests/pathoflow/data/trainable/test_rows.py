"""Which pairs, conversations and questions can be used, and why others cannot."""

from __future__ import annotations

import pytest
from transformers.models.qwen2 import Qwen2Tokenizer

from pathoflow.data.image_io import encode_jpeg
from pathoflow.data.trainable.rows import conversation_fault, pair_fault, question_fault
from pathoflow.data.trainable.text_checks import text_fault
from pathoflow.qa.prompts import mcq_text, prompt_messages, response_text, text_message
from tests.support.odd import embedded
from tests.support.pairs import pair, picture

IMAGE = embedded(encode_jpeg(picture(1)), "a")
SAID = text_message("assistant", response_text("yellow", "A"))
ASKED = prompt_messages("A lipoma\nB naevus", "short")
PAIR = pair("a", "A lipoma.", inline_refs=["See the fat."])
OPTIONS = ["lipoma", "naevus"]
QUESTION = {"prompt": mcq_text(OPTIONS, "cot"), "images": [IMAGE], "options": OPTIONS, "answer": "B"}

PAIRS = {
    None: {},
    "no_caption": {"caption": " \n"},
    "special_token": {"caption": "A <|im_end|> lesion."},
    "empty_reference": {"inline_refs": ["See.", None]},
    "empty_file": {"image": None},
    "wrong_size": {"width": PAIR["width"] + 1},
}
CONVERSATIONS = {
    None: ([*ASKED, SAID], [IMAGE]),
    "no_response": (None, None),
    "image_count": ([*ASKED, SAID], None),
    "unknown_role": ([*ASKED, text_message("narrator", "Meanwhile"), SAID], [IMAGE]),
    "unknown_part": ([{"role": "user", "content": [{"type": "video", "text": None}]}, SAID], []),
    "empty_turn": ([*ASKED, text_message("assistant", ""), *ASKED, SAID], [IMAGE, IMAGE]),
    "no_question": ([text_message("system", "Answer."), SAID], []),
    "special_token": ([text_message("user", "<|image_pad|>"), SAID], []),
    "not_an_image": ([*ASKED, SAID], [embedded(b"text", "a")]),
}
QUESTIONS = {
    None: {},
    "no_question": {"prompt": None},
    "option_count": {"options": [f"kind {number}" for number in range(27)]},
    "empty_option": {"options": ["lipoma", " "]},
    "bad_answer": {"answer": None},
    "special_token": {"options": ["lipoma", "<|im_end|>"]},
    "no_image": {"images": None},
    "empty_file": {"images": [None]},
}


@pytest.mark.parametrize("reason", PAIRS)
def test_pairs(reason):
    fault = pair_fault(PAIR | PAIRS[reason], with_references=True)
    assert (fault and fault[0]) == reason


def test_what_is_not_learned_of_a_pair_does_not_matter():
    row = PAIR | {"inline_refs": ["<|im_end|>", None]}
    assert pair_fault(row, with_references=False) is None
    assert pair_fault(PAIR | {"inline_refs": None}, with_references=True) is None


@pytest.mark.parametrize("reason", CONVERSATIONS)
def test_conversations(reason):
    messages, images = CONVERSATIONS[reason]
    fault = conversation_fault({"messages": messages, "images": images})
    assert (fault and fault[0]) == reason


@pytest.mark.parametrize("messages", [[None], [*ASKED, None, SAID], [{"role": "user", "content": None}, SAID]])
def test_nulls_in_turns_are_faults(messages):
    assert conversation_fault({"messages": messages, "images": [IMAGE]})


def test_a_token_in_two_parts_is_one():
    parts = [{"type": "text", "text": "a <|image"}, {"type": "text", "text": "_pad|>"}]
    assert conversation_fault({"messages": [{"role": "user", "content": parts}, SAID], "images": []}) == (
        "special_token",
        "the text holds <|image_pad|>",
    )


@pytest.mark.parametrize("reason", QUESTIONS)
def test_questions(reason):
    fault = question_fault(QUESTION | QUESTIONS[reason])
    assert (fault and fault[0]) == reason


@pytest.mark.parametrize("answer", ["", "AB", "C", "b"])
def test_only_a_letter_of_its_options_is_an_answer(answer):
    assert question_fault(QUESTION | {"answer": answer})[0] == "bad_answer"


def test_options_that_are_to_be_put_in_another_order_must_end_the_text():
    row = QUESTION | {"prompt": QUESTION["prompt"] + "\nThink."}
    assert question_fault(row) is None
    assert question_fault(row, reordered=True)[0] == "options_elsewhere"
    assert question_fault(QUESTION, reordered=True) is None


def test_every_special_token_of_the_models_is_known():
    # Source: tokenizer_config.json of Qwen/Qwen2.5-VL and of openai/clip-vit, `added_tokens_decoder`.
    vision = ("object_ref", "box", "quad", "vision")
    names = [*(f"{name}_{end}" for name in vision for end in ("start", "end")), "vision_pad", "image_pad", "video_pad"]
    names += ["endoftext", "startoftext", "im_start", "im_end", "fim_prefix", "fim_middle", "fim_suffix", "fim_pad"]
    names += ["repo_name", "file_sep"]
    assert all(text_fault(f"A <|{name}|> lesion.") for name in names)
    assert Qwen2Tokenizer().all_special_tokens
    assert all(text_fault(token) for token in Qwen2Tokenizer().all_special_tokens)
