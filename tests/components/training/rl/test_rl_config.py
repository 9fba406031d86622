"""Recipes that contradict the paper's equations or themselves are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from components.training.rl.config import RlConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epsilon_high": 0.28}, "grpo clips symmetrically"),
        ({"algorithm": "dapo", "beta": 0.01}, "dapo has no KL term"),
        ({"prompts_per_step": 100}, "500 completions, but .* = 640 places"),
        ({"num_processes": 2}, "640 completions, but .* = 1280 places"),
        ({"max_completion_tokens": 100}, "overlong_cache_tokens must not exceed"),
        ({"steps_per_generation": 3}, "save_every_steps must be a multiple"),
        ({"num_generations": 1}, "greater than or equal to 2"),
        ({"temperature": 0.0}, "greater than 0"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        RlConfig(**values)


def test_dapo_clips_asymmetrically():
    config = RlConfig(algorithm="dapo", beta=0.0, epsilon_low=0.2, epsilon_high=0.28)
    assert (config.epsilon_low, config.epsilon_high) == (0.2, 0.28)
