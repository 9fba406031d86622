"""Texts in which an option's letter is looked up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.training.base_model.lookups import find_lookups, reordered
from pathoflow.qa.prompts import mcq_text, prompt_messages, response_text, text_message

NAMES = ["T-cell lymphoma", "B-cell lymphoma", "lipoma", "A naevus"]


def question(style: str, thinking: str = "brown: B-cell lymphoma", answer: str = "B") -> list:
    return [*prompt_messages(mcq_text(NAMES, style), style), text_message("assistant", response_text(thinking, answer))]


def test_only_questions_with_a_letter_to_look_up_are_found():
    found = find_lookups(
        [
            question("short"),
            question("short", answer="B-cell lymphoma"),
            question("cot", thinking="These fit B-cell lymphoma. That is option B."),
            prompt_messages("Describe.", "short"),
        ]
    )
    assert [(lookup.given, lookup.letter) for lookup in found] == [
        ("<think>brown: B-cell lymphoma</think><answer>", "B")
    ]


@given(st.sampled_from(["short", "cot"]), st.integers(0, 99))
def test_the_letter_moves_with_the_option_named(style, seed):
    (lookup,) = reordered(find_lookups([question(style)]), 1, seed)
    asked = lookup.messages[-1]["content"][-1]["text"]
    assert asked.count("\n") == mcq_text(NAMES, style).count("\n")
    lines = dict(line.replace(".", "", 1).split(" ", 1) for line in asked.splitlines()[-4:])
    assert sorted(lines.values()) == sorted(NAMES)
    assert lines[lookup.letter] == "B-cell lymphoma"


def test_letters_are_spread_evenly():
    letters = [lookup.letter for lookup in reordered(find_lookups([question("short")]), 400, seed=0)]
    for letter in "ABCD":
        assert 70 < letters.count(letter) < 130
