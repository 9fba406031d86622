from __future__ import annotations

import pytest

from pathoflow.qa.prompts import response_text
from pathoflow.qa.question import Question
from pathoflow.qa.scoring import accuracy, chance, is_correct, think_answer_consistent

CHOICE = Question("c", "", (), ("lipoma", "melanoma", "T-cell lymphoma"), "B")
YES_NO = Question("y", "Is it malignant?", (), (), "否")
OPEN = Question("o", "What is it?", (), (), "Lipoma")


@pytest.mark.parametrize(
    ("question", "response", "correct"),
    [
        (CHOICE, response_text("black", "B"), True),
        (CHOICE, response_text("black", "melanoma"), True),
        (CHOICE, "b", True),
        (CHOICE, response_text("B", "A"), False),
        (CHOICE, "This is not lipoma", False),
        (CHOICE, "", False),
        (YES_NO, "No, it is benign", True),
        (YES_NO, "<answer>不是</answer>", True),
        (YES_NO, "yes", False),
        (YES_NO, "perhaps", False),
        (OPEN, response_text("yellow", " lipoma. "), True),
        (OPEN, "Ｌｉｐｏｍａ", True),
        (OPEN, response_text("yellow", "a lipoma or a melanoma"), False),
        (OPEN, response_text("lipoma", ""), False),
    ],
)
def test_a_response_is_right_where_its_answer_can_be_read_and_is_right(question, response, correct):
    assert is_correct(response, question) is correct


def test_thinking_of_one_option_and_answering_another_is_noticed():
    assert think_answer_consistent(response_text("black: Melanoma. ", "B"), CHOICE)
    assert think_answer_consistent(response_text("Not lipoma. It fits melanoma. That is option B.", "B"), CHOICE)
    assert not think_answer_consistent(response_text("black: melanoma", "A"), CHOICE)
    assert not think_answer_consistent(response_text("black: melanoma", "F"), CHOICE)
    assert not think_answer_consistent(response_text("lipoma or melanoma", "B"), CHOICE)
    assert not think_answer_consistent("black: melanoma B", CHOICE)


def test_an_accuracy_has_its_interval_and_chance_is_that_of_guessing():
    share = accuracy([True, False, True, True])
    assert share.low < share.value == 0.75 < share.high
    assert chance([CHOICE, YES_NO, OPEN]) == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
