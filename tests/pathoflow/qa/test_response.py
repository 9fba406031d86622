from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathoflow.qa.prompts import response_text
from pathoflow.qa.response import parse

PLAIN = st.text(alphabet=st.characters(exclude_characters="<>"), max_size=60)
PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "A", " ", "so"])).map("".join)


@given(PLAIN, PLAIN)
def test_what_is_written_in_the_format_is_read_back(thinking, answer):
    response = parse(response_text(thinking, answer))
    assert (response.thinking, response.answer, response.final) == (thinking, answer, answer)
    assert response.well_formed


@given(PIECES)
def test_a_well_formed_response_has_one_answer_which_is_final(text):
    response = parse(text)
    if response.well_formed:
        assert response.answer == response.final
    if response.answer is not None:
        assert text.count("<answer>") == 1


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("<answer>small black lesion</think><answer>B</answer>", ""),
        ("<think><answer>A</answer></think>", "A"),
        ("<answer>A</answer><answer>B</answer>", "A"),
        ("<think>A</think> so B", " so B"),
        ("<think>A</think><answer>B", " B"),
        ("B", "B"),
        ("<think>A</think>", ""),
    ],
)
def test_the_final_part_is_the_first_answer_block(text, final):
    assert parse(text).final == final
