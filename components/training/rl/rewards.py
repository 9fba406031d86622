"""The rewards of the paper, as plain functions of one completion.

Equations are those of the Patho-R1 paper: 3 for GRPO, 4 for DAPO. As printed, both give the weighted sum only when both
of its parts are 1; the weights then never act, and the rewards are {0, 1} and {-1, 1}. `gating` chooses between that
(`paper`) and the plain weighted sum (`additive`).
"""

from __future__ import annotations

from dataclasses import dataclass

from components.training.rl.config import Algorithm, Gating, RlConfig
from pathoflow.qa.response import parse


@dataclass(frozen=True)
class Rewards:
    """The worth of one completion, in parts and in all.

    Attributes:
        format: 0 or 1, see `format_reward`.
        accuracy: 0 or 1, see `accuracy_reward`.
        overlong_penalty: -1 to 0, see `overlong_penalty`.
        length: 0 to 1, see `length_reward`.
        total: What the model is trained with, see `total_reward`.
    """

    format: float
    accuracy: float
    overlong_penalty: float
    length: float
    total: float


def rewards_of(completion: str, num_tokens: int, answer: str, config: RlConfig) -> Rewards:
    """Computes all rewards of one completion.

    Args:
        completion: The model's words.
        num_tokens: Their length, the closing token included.
        answer: The right letter.
        config: Algorithm, gating and the limits of length.
    """
    limits = config.max_completion_tokens, config.overlong_cache_tokens
    form, accuracy = format_reward(completion), accuracy_reward(completion, answer)
    length = length_reward(num_tokens, *limits)
    total = total_reward(config.algorithm, config.gating, form, accuracy, length)
    return Rewards(form, accuracy, overlong_penalty(num_tokens, *limits), length, total)


def format_reward(completion: str) -> float:
    """Returns 1 for one `<think>…</think>` and then one `<answer>…</answer>` with only white space besides, else 0.

    Source: the paper's format reward.

    >>> format_reward("<think>Yellow lobules.</think> <answer>A</answer>")
    1.0
    >>> format_reward("<think>Yellow.</think><answer>A</answer><answer>B</answer>")
    0.0
    >>> format_reward("So: <think>Yellow.</think><answer>A</answer>")
    0.0
    """
    return float(parse(completion).well_formed)


def accuracy_reward(completion: str, answer: str) -> float:
    """Returns 1 if the only answer block holds nothing but the right letter, else 0.

    Stricter than `scoring.is_correct`, which also reads answers in other words: the reward teaches the format.

    Source: the paper's accuracy reward.

    >>> accuracy_reward("<think>…</think><answer>A</answer>", "A")
    1.0
    >>> accuracy_reward("<think>…</think><answer>A or B</answer>", "A")
    0.0
    """
    return float((parse(completion).answer or "").strip() == answer)


def overlong_penalty(num_tokens: int, max_tokens: int, cache_tokens: int) -> float:
    """Returns the soft overlong punishment: 0 up to `max_tokens - cache_tokens`, falling to -1 at `max_tokens`.

    Source: DAPO (arXiv 2503.14476), equation 13.

    >>> [overlong_penalty(num, max_tokens=100, cache_tokens=20) for num in (10, 80, 90, 100, 200)]
    [0.0, 0.0, -0.5, -1.0, -1.0]
    """
    return min(0.0, max(-1.0, (max_tokens - cache_tokens - num_tokens) / cache_tokens))


def length_reward(num_tokens: int, max_tokens: int, cache_tokens: int) -> float:
    """Returns 1 for a completion of ordinary length, falling to 0 at `max_tokens`.

    Source: equation 4. Differs from source: the paper names DAPO's punishment, which is at most 0, but its equation
    needs a reward that reaches 1; this is 1 + punishment.

    >>> length_reward(90, max_tokens=100, cache_tokens=20)
    0.5
    """
    return 1.0 + overlong_penalty(num_tokens, max_tokens, cache_tokens)


def total_reward(algorithm: Algorithm, gating: Gating, form: float, accuracy: float, length: float) -> float:
    """Combines the parts into the reward that the model is trained with.

    Source: equations 3 (`grpo`) and 4 (`dapo`).

    >>> total_reward("grpo", "paper", form=1.0, accuracy=0.0, length=1.0)
    0.0
    >>> total_reward("grpo", "additive", form=1.0, accuracy=0.0, length=1.0)
    0.1
    >>> total_reward("dapo", "paper", form=1.0, accuracy=1.0, length=0.5)
    -1.0
    >>> total_reward("dapo", "additive", form=1.0, accuracy=1.0, length=0.5)
    0.75
    """
    if algorithm == "grpo":
        return 0.0 if gating == "paper" and not form == accuracy == 1.0 else 0.1 * form + 0.9 * accuracy
    return -1.0 if gating == "paper" and not accuracy == length == 1.0 else 0.5 * accuracy + 0.5 * length
