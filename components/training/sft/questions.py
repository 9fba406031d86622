"""Which conversations are asked of the model between steps, and what is right there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pathoflow.data.trainable.rows import conversation_fault, turn_text
from pathoflow.data.trainable.text_checks import Fault

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def answer_in(response: str) -> str | None:
    """What stands between the first pair of answer tags.

    >>> answer_in("<think>yellow</think><answer> B </answer>"), answer_in("B")
    ('B', None)
    """
    match = _ANSWER.search(response)
    return match[1].strip() if match else None


def right_answer(row: Mapping[str, Any]) -> str | None:
    """The answer in the last turn of a conversation."""
    return answer_in(turn_text(row["messages"][-1]))


def dev_fault(row: Mapping[str, Any]) -> Fault | None:
    """What keeps a multiple-choice conversation from being asked; None if nothing does."""
    if fault := conversation_fault(row, whole=True):
        return fault
    if not right_answer(row):
        return "no_answer", "the response holds nothing between answer tags"
    return None


def conversation_name(row: Mapping[str, Any]) -> str:
    """What its user would call a conversation."""
    return f"{row['pair_id']} ({row['task']})"
