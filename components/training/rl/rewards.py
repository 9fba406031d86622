"""The rewards of the paper, as plain functions of one completion.

Equations are those of the Patho-R1 paper: 3 for GRPO, 4 for DAPO. As printed, both give the weighted sum only when both
of its parts are 1; the weights then never act, and the rewards are {0, 1} and {-1, 1}. `gating` chooses between that
(`paper`) and the plain weighted sum (`additive`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.training.rl.config import Algorithm, Gating, RlConfig
from pathoflow.qa.prompts import LETTERS

_TAG = re.compile(r"</?(?:think|answer)>")
_RESPONSE = re.compile(r"\s*<think>(?P<thinking>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)
_ANSWER = re.compile(r"<answer>\s*([A-F])\s*</answer>")
_NUM_TAGS = 4


@dataclass(frozen=True)
class Rewards:
    """What one completion is worth, in parts and in all.

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
    """All rewards of one completion.

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
    """1 if the completion is one `<think>…</think>` and then one `<answer>…</answer>`, and only white space besides.

    Source: the paper's format reward.

    >>> format_reward("<think>Yellow lobules.</think> <answer>A</answer>")
    1.0
    >>> format_reward("<think>Yellow.</think><answer>A</answer><answer>B</answer>")
    0.0
    >>> format_reward("So: <think>Yellow.</think><answer>A</answer>")
    0.0
    """
    well_formed = _RESPONSE.fullmatch(completion) and len(_TAG.findall(completion)) == _NUM_TAGS
    return 1.0 if well_formed else 0.0


def answered_letter(completion: str) -> str | None:
    """The letter in the completion's only answer block, or None.

    >>> answered_letter("<answer> B </answer>")
    'B'
    >>> answered_letter("<answer>lipoma</answer>") is answered_letter("<answer>A</answer><answer>B</answer>") is None
    True
    """
    found = _ANSWER.findall(completion)
    return found[0] if len(found) == completion.count("<answer>") == 1 else None


def accuracy_reward(completion: str, answer: str) -> float:
    """1 if the answer block holds nothing but the right letter.

    Source: the paper's accuracy reward.

    >>> accuracy_reward("<think>…</think><answer>A</answer>", "A")
    1.0
    >>> accuracy_reward("<think>…</think><answer>A or B</answer>", "A")
    0.0
    """
    return 1.0 if answered_letter(completion) == answer else 0.0


def overlong_penalty(num_tokens: int, max_tokens: int, cache_tokens: int) -> float:
    """The soft overlong punishment: 0 up to `max_tokens - cache_tokens`, falling to -1 at `max_tokens`.

    Source: DAPO (arXiv 2503.14476), equation 13.

    >>> [overlong_penalty(num, max_tokens=100, cache_tokens=20) for num in (10, 80, 90, 100, 200)]
    [0.0, 0.0, -0.5, -1.0, -1.0]
    """
    return min(0.0, max(-1.0, (max_tokens - cache_tokens - num_tokens) / cache_tokens))


def length_reward(num_tokens: int, max_tokens: int, cache_tokens: int) -> float:
    """1 for a completion of ordinary length, falling to 0 at `max_tokens`.

    Source: equation 4. Differs from source: the paper names DAPO's punishment, which is at most 0, but its equation
    needs a reward that reaches 1; this is 1 + punishment.

    >>> length_reward(90, max_tokens=100, cache_tokens=20)
    0.5
    """
    return 1.0 + overlong_penalty(num_tokens, max_tokens, cache_tokens)


def total_reward(algorithm: Algorithm, gating: Gating, form: float, accuracy: float, length: float) -> float:
    """The reward that the model is trained with, from its parts.

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


def think_answer_consistent(completion: str, options: Sequence[str]) -> bool:
    """Whether the thinking ends with the text of the option whose letter is answered.

    >>> completion = "<think>Yellow lobules: Lipoma.</think><answer>B</answer>"
    >>> think_answer_consistent(completion, ["melanoma", "lipoma"])
    True
    >>> think_answer_consistent(completion, ["lipoma", "melanoma"])
    False
    """
    response, letter = _RESPONSE.fullmatch(completion), answered_letter(completion)
    if response is None or letter is None or LETTERS.index(letter) >= len(options):
        return False
    conclusion = response["thinking"].rstrip(" \n\t.。").casefold()
    return conclusion.endswith(options[LETTERS.index(letter)].casefold())
