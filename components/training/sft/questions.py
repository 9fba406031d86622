"""Makes questions of the conversations that are asked between steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pathoflow.data.trainable.rows import conversation_fault, turn_text
from pathoflow.data.trainable.text_checks import Fault
from pathoflow.qa.extraction import extract
from pathoflow.qa.prompts import LETTERS, options_in
from pathoflow.qa.question import Question
from pathoflow.qa.response import parse


def question_of(row: Mapping[str, Any]) -> Question:
    """Returns the question that the last turn of a conversation answers.

    Its options are those with which the user's text ends; without any it is open.

    Raises:
        ValueError: The response gives no answer, or none of the options.
    """
    *asked, response = row["messages"]
    prompt, said = turn_text(asked[-1]), turn_text(response)
    images = tuple(image["bytes"] for image in row["images"] or ())
    options, answer = options_in(prompt), (parse(said).answer or "").strip()
    if not answer:
        raise ValueError("the response holds nothing between answer tags")
    if options:
        right = extract(said, Question("", prompt, images, options, LETTERS[0])).answer
        if right is None:
            raise ValueError(f"the answer {answer!r} is none of its {len(options)} options")
        answer = right
    return Question(conversation_name(row), prompt, images, options, answer)


def dev_fault(row: Mapping[str, Any]) -> Fault | None:
    """Tells what keeps a multiple-choice conversation from being asked; None if nothing does."""
    if fault := conversation_fault(row, whole=True):
        return fault
    try:
        question_of(row)
    except ValueError as error:
        return "no_answer", str(error)
    return None


def conversation_name(row: Mapping[str, Any]) -> str:
    """Names a conversation as its user would."""
    return f"{row['pair_id']} ({row['task']})"
