from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathoflow.qa.prompts import LETTERS, mcq_text, options_in
from pathoflow.qa.question import Question

OPTIONS = [f"kind {number}" for number in range(26)]


def question(options=OPTIONS[:3], answer="B", style="cot") -> Question:
    return Question("q", mcq_text(options, style), (b"image",), tuple(options), answer)


@pytest.mark.parametrize("num", [1, 27])
def test_options_that_letters_do_not_suffice_for_are_refused(num):
    with pytest.raises(ValueError, match=f"q: {num} options; 2 to 26 have letters"):
        Question("q", "?", (), ("x",) * num, "A")


@pytest.mark.parametrize("answer", ["", "D", "AB", "a"])
def test_an_answer_is_a_letter_of_its_options(answer):
    with pytest.raises(ValueError, match="none of the letters ABC"):
        question(answer=answer)


@pytest.mark.parametrize(("answer", "kind"), [("Yes", "yes_no"), ("否", "yes_no"), ("lipoma", "open"), ("", "open")])
def test_a_question_without_options_is_told_by_its_answer(answer, kind):
    assert Question("q", "?", (), (), answer).kind == kind


@given(st.permutations(range(26)), st.sampled_from(LETTERS), st.sampled_from(["cot", "short"]))
def test_the_right_text_stays_right_in_another_order(order, answer, style):
    before = question(OPTIONS, answer, style)
    after = before.reordered(order)
    assert after.options[LETTERS.index(after.answer)] == before.options[LETTERS.index(before.answer)]
    assert options_in(after.prompt) == after.options
    assert after.prompt == mcq_text(after.options, style)
    inverse = [order.index(number) for number in range(26)]
    assert after.reordered(inverse) == before


def test_a_row_becomes_a_question_with_its_image_in_front():
    row = {"mcq_id": "m", "prompt": "A x\nB y", "images": [{"bytes": b"1"}], "options": ["x", "y"], "answer": "B"}
    made = Question.of_row(row | {"subfield": None})
    assert (made.id, made.options, made.answer, made.subfield, made.kind) == ("m", ("x", "y"), "B", "", "choice")
    assert [part["type"] for part in made.messages("short")[-1]["content"]] == ["image", "text"]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("What?\nA) x\nB) y", ("x", "y")),
        ("What?\n(A) x\n(B) y\n(C) z", ("x", "y", "z")),
        ("什么？\nA、甲\nB、乙", ("甲", "乙")),
        ("A man coughs.\nA. x\nB. y", ("x", "y")),
        ("A. x\nC. y", ()),
        ("A. x", ()),
        ("A. x\nB. y\nThink.", ()),
        ("", ()),
    ],
)
def test_options_are_read_from_the_end_of_a_text(text, options):
    assert options_in(text) == options
