"""The question that a conversation puts, and conversations that put none."""

from __future__ import annotations

import random

import pytest

from components.training.sft.questions import dev_fault, question_of
from pathoflow.qa.prompts import mcq_text, prompt_messages, response_text, text_message
from pathoflow.qa.scoring import is_correct
from tests.support.conversations import COLOURS, conversation

ROW = conversation(0, random.Random(0))
NAMES = sorted(COLOURS)


def row(response: str, options=NAMES, style="cot"):
    asked = prompt_messages(mcq_text(options, style), style)
    return ROW | {"messages": [*asked, text_message("assistant", response)]}


@pytest.mark.parametrize("style", ["cot", "short"])
@pytest.mark.parametrize("answer", ["B", "b", "B. lipoma", "lipoma"])
def test_a_conversation_is_a_question_with_its_options_and_the_letter_of_its_answer(style, answer):
    question = question_of(row(response_text("yellow", answer), style=style))
    assert (question.kind, question.options, question.answer) == ("choice", tuple(NAMES), "B")
    assert question.id == "pair_0 (mcq)"
    assert is_correct(response_text("yellow", "lipoma"), question), "as everywhere, not only by the same words"
    assert not is_correct(response_text("yellow", "A"), question)


def test_every_well_formed_response_to_learn_is_right_itself():
    for number in range(8):
        made = conversation(number, random.Random(number))
        response = made["messages"][-1]["content"][-1]["text"]
        assert is_correct(response, question_of(made))
        assert dev_fault(made) is None


@pytest.mark.parametrize("response", ["B", response_text("yellow", " "), response_text("yellow", "E"), "<answer>A"])
def test_a_response_without_an_answer_of_its_question_is_a_fault(response):
    fault = dev_fault(row(response))
    assert fault is not None
    assert fault[0] == "no_answer"
