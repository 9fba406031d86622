"""The rewards keep to the paper's equations, whatever a model says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.training.rl.config import RlConfig
from components.training.rl.rewards import (
    accuracy_reward,
    format_reward,
    length_reward,
    overlong_penalty,
    rewards_of,
    total_reward,
)
from pathoflow.qa.prompts import response_text
from pathoflow.qa.question import Question
from pathoflow.qa.scoring import is_correct

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
words = st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=30)
pieces = st.lists(st.one_of(st.sampled_from(TAGS), words, st.sampled_from("ABCDEF")), max_size=12).map("".join)
binary = st.sampled_from([0.0, 1.0])


@given(words, words)
def test_a_response_as_the_teacher_writes_it_has_the_format(thinking, answer):
    assert format_reward(response_text(thinking, answer)) == 1.0
    assert format_reward(f" \n{response_text(thinking, answer)}\n") == 1.0


@given(words, words, st.integers(0, 3), st.sampled_from([*TAGS, "x"]))
def test_a_tag_or_a_word_too_many_breaks_the_format(thinking, answer, place, extra):
    parts = ["", f"<think>{thinking}</think>", f"<answer>{answer}</answer>", ""]
    parts.insert(place, extra)
    assert format_reward("".join(parts)) == 0.0


@given(pieces)
def test_whatever_has_the_format_has_each_tag_once_and_nothing_outside(completion):
    if format_reward(completion):
        assert [completion.count(tag) for tag in TAGS] == [1, 1, 1, 1]
        assert completion.strip().startswith("<think>")
        assert completion.strip().endswith("</answer>")


@pytest.mark.parametrize("answer", ["AB", "A.", "a", "G", "", "A B", "the answer is A"])
@pytest.mark.parametrize("right", "ABCDEF")
def test_only_a_single_letter_is_an_answer(answer, right):
    assert accuracy_reward(response_text("…", answer), right) == 0.0


@pytest.mark.parametrize("extra", ["<answer>A</answer>", "<answer>", "<answer>B</answer>"])
def test_an_answer_given_twice_is_none(extra):
    response = response_text("…", "A")
    assert accuracy_reward(response, "A") == accuracy_reward(f"Hm. {response}", "A") == 1.0
    assert accuracy_reward(response + extra, "A") == accuracy_reward(extra + response, "A") == 0.0


@given(pieces, st.sampled_from("ABCDEF"))
def test_what_is_rewarded_counts_as_correct(completion, right):
    question = Question("q", "", (), tuple("uvwxyz"), right)
    assert is_correct(completion, question) or not accuracy_reward(completion, right)


@given(pieces)
def test_at_most_one_letter_is_right(completion):
    assert sum(accuracy_reward(completion, letter) for letter in "ABCDEF") <= 1.0


@given(st.integers(0, 300), st.integers(1, 100), st.integers(100, 200))
def test_the_length_reward_falls_from_one_to_zero(num_tokens, cache, limit):
    reward = length_reward(num_tokens, limit, cache)
    assert 0.0 <= reward <= 1.0
    assert reward >= length_reward(num_tokens + 1, limit, cache)
    assert (reward == 1.0) == (num_tokens <= limit - cache)
    assert (reward == 0.0) == (num_tokens >= limit)


def test_the_penalty_is_that_of_trl():
    from trl.rewards import get_soft_overlong_punishment

    theirs = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    lengths = [0, 79, 80, 81, 99, 100]
    assert [overlong_penalty(length, 100, 20) for length in lengths] == theirs([[0] * length for length in lengths])


@given(binary, binary, st.floats(0.0, 1.0) | binary)
def test_gating_as_printed_leaves_two_values(form, accuracy, length):
    assert total_reward("grpo", "paper", form, accuracy, length) == float(form == accuracy == 1.0)
    assert total_reward("dapo", "paper", form, accuracy, length) == (1.0 if accuracy == length == 1.0 else -1.0)


@given(binary, binary, st.floats(0.0, 1.0))
def test_additive_rewards_are_the_weighted_sums(form, accuracy, length):
    assert total_reward("grpo", "additive", form, accuracy, length) == 0.1 * form + 0.9 * accuracy
    assert total_reward("dapo", "additive", form, accuracy, length) == 0.5 * accuracy + 0.5 * length


def test_the_parts_of_one_completion():
    config = RlConfig(algorithm="dapo", gating="additive", beta=0.0, max_completion_tokens=40, overlong_cache_tokens=20)
    rewards = rewards_of(response_text("yellow", "A"), 30, "A", config)
    assert (rewards.format, rewards.accuracy, rewards.overlong_penalty, rewards.length) == (1.0, 1.0, -0.5, 0.5)
    assert rewards.total == 0.75
    assert rewards_of(response_text("yellow", "A"), 30, "B", config).total == 0.25
