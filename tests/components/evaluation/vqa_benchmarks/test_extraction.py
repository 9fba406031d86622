from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.vqa_benchmarks.extraction import extract, named_option, thinking
from pathoflow.qa.prompts import LETTERS, response_text

OPTIONS = ["T-cell lymphoma", "B-cell lymphoma", "lipoma", "melanoma"]
PLAIN = st.text(alphabet=st.characters(exclude_characters="<>"), max_size=60)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("<think>It is not A.</think><answer>B</answer>", "B"),
        ("<think>It is not A.</think>\n<answer>\n**B**\n</answer>", "B"),
        ("<answer>B. B-cell lymphoma</answer>", "B"),
        ("<answer>(D)</answer> rather <answer>A</answer>", "D"),
        ("<think>So D.</think> I choose C", "C"),
        ("<think>So D.</think><answer>C", "C"),
        ("C", "C"),
        ("After all of this it must be (D).", "D"),
        ("The answer is C, since the fat is yellow and lobulated", "C"),
        ("Answer: C, since the fat is yellow and lobulated", "C"),
        ("答案是C，因为脂肪呈黄色", "C"),
        ("The answer is a lipoma of the skin and nothing else", "C"),
        ("The answer is B-cell lymphoma without any doubt at all", "B"),
        ("yellow lobules: Lipoma", "C"),
    ],
)
def test_what_can_be_read(response, letter):
    assert extract(response, OPTIONS) == letter


@pytest.mark.parametrize(
    "response",
    [
        "",
        "<think>The answer is C: lipoma</think>",
        "<answer></answer>",
        "<answer>E</answer>",
        "<answer>A or B</answer>",
        "Either A or B",
        "lipoma or melanoma",
        "A picture with many small blue cells in it",
        "The answer is A. No, the answer is B, as the cells are brown",
        "I cannot tell",
    ],
)
def test_what_cannot_be_read_is_no_answer(response):
    assert extract(response, OPTIONS) is None


@given(st.text(max_size=200), st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=6))
def test_an_answer_is_one_of_the_options_or_none(response, options):
    assert extract(response, options) in {None, *LETTERS[: len(options)]}


@given(PLAIN, st.sampled_from("ABCD"), PLAIN)
def test_the_answer_block_alone_counts(thoughts, letter, rest):
    assert extract(response_text(thoughts, letter) + rest, OPTIONS) == letter


@given(PLAIN)
def test_reasoning_alone_is_no_answer(thoughts):
    assert extract(f"<think>{thoughts}</think>", OPTIONS) is None
    assert thinking(f"<think>{thoughts}</think>") == thoughts


def test_an_option_within_another_is_not_unique():
    assert named_option("tubular adenoma", ["adenoma", "tubular adenoma"]) is None
    assert named_option("an adenoma", ["adenoma", "tubular adenoma"]) == "A"
