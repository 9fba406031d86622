"""The order in which questions are asked, and that of their options."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler
from trl.trainer.utils import RepeatSampler

from components.training.rl.config import RlConfig
from components.training.rl.worker import training_questions
from pathoflow.qa.prompts import LETTERS, mcq_text
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
        was, now = before["question"], after["question"]
        assert now.options[LETTERS.index(now.answer)] == was.options[LETTERS.index(was.answer)]
        assert after["prompt"][-1]["content"][-1]["text"] == mcq_text(now.options, "short")
        assert sorted(now.options) == sorted(was.options)
        letters.add(now.answer)
    assert len(letters) > 1
    again = training_questions(rows, config, max_steps=6)
    assert texts(again[5:9]["prompt"]) == texts(asked[5:9]["prompt"])
    for_another_process = pickle.loads(pickle.dumps(again))
    assert texts(for_another_process[5:9]["prompt"]) == texts(asked[5:9]["prompt"])


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(2, 4), st.integers(1, 3), st.integers(1, 5))
def test_processes_sample_as_many_completions_as_each_other_in_every_round(
    num_processes, batch_size, passes, num_generations, steps_per_generation, max_steps
):
    """Else one would call the model less often than the others, which wait for its weights (ZeRO-3) for ever.

    TRL's sampler is dealt to the processes in accelerate's batches, as its trainer does.
    """
    num_completions = num_processes * batch_size * passes
    assume(num_completions % num_generations == 0)
    config = RlConfig(
        **VALUES
        | {
            "num_processes": num_processes,
            "batch_size_per_process": batch_size,
            "gradient_accumulation_steps": passes,
            "num_generations": num_generations,
            "prompts_per_step": num_completions // num_generations,
            "steps_per_generation": steps_per_generation,
            "save_every_steps": steps_per_generation,
        }
    )
    own_batch = batch_size * passes * steps_per_generation
    rows = [question(number) for number in range(3)]
    sampler = RepeatSampler(
        training_questions(rows, config, max_steps),
        mini_repeat_count=num_generations,
        batch_size=own_batch * num_processes // num_generations,
        repeat_count=passes * steps_per_generation,
        shuffle=False,
    )
    shares = [
        list(BatchSamplerShard(BatchSampler(sampler, own_batch, drop_last=False), num_processes, process))
        for process in range(num_processes)
    ]
    # A batch for each forward pass; TRL samples once for those of a round.
    num_rounds = -(-max_steps // steps_per_generation)
    assert [len(share) for share in shares] == [num_rounds * steps_per_generation * passes] * num_processes
    assert {len(batch) for share in shares for batch in share} == {own_batch}
