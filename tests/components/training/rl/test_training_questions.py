"""The order in which questions are asked, and that of their options."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from components.training.rl.config import RlConfig
from components.training.rl.worker import training_questions
from pathoflow.prompts import LETTERS, mcq_text
from tests.components.training.rl.test_rl import VALUES, question

VALUES_SHORT = {**VALUES, "prompts_per_step": 4, "gradient_accumulation_steps": 1, "max_steps": 6}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return [question(number) for number in range(8)]


def texts(prompts: list[list[dict[str, Any]]]) -> list[str]:
    return [message[-1]["content"][-1]["text"] for message in prompts]


def test_each_pass_asks_every_question_once(rows: list[dict[str, object]]) -> None:
    asked = training_questions(rows, RlConfig(**VALUES_SHORT), max_steps=6)
    assert len(asked) == 24
    for start in (0, 8, 16):
        assert sorted(texts(asked[start : start + 8]["prompt"])) == sorted(row["prompt"] for row in rows)


def test_reordered_options_keep_the_right_answer_and_differ_between_passes(rows: list[dict[str, object]]) -> None:
    config = RlConfig(**VALUES_SHORT, shuffle_options=True)
    asked = training_questions(rows, config, max_steps=6)
    plain = training_questions(rows, RlConfig(**VALUES_SHORT), max_steps=6)
    letters = set()
    for before, after in zip(plain, asked, strict=True):
        right = before["options"][LETTERS.index(before["answer"])]
        assert after["options"][LETTERS.index(after["answer"])] == right
        assert after["prompt"][-1]["content"][-1]["text"] == mcq_text(after["options"], "short")
        assert sorted(after["options"]) == sorted(before["options"])
        letters.add(after["answer"])
    assert len(letters) > 1
    again = training_questions(rows, config, max_steps=6)
    assert texts(again[5:9]["prompt"]) == texts(asked[5:9]["prompt"])
    for_another_process = pickle.loads(pickle.dumps(again))
    assert texts(for_another_process[5:9]["prompt"]) == texts(asked[5:9]["prompt"])
