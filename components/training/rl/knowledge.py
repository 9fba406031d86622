"""Builds what the loss before the first step is measured on: the right letters of dev questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pathoflow.modeling.encoding import Encoder, Sample, filler, prompt
from pathoflow.qa.prompts import PromptStyle, response_text
from pathoflow.qa.question import Question
from pathoflow.training.steps import packed

NUM_QUESTIONS = 16
"""Questions per process; one pass shows them all."""
_GIVEN, _, _CLOSING = response_text("", "|").partition("|")


def letters(
    questions: Sequence[Question], style: PromptStyle, encoder: Encoder, process: int, num_processes: int
) -> dict[str, Any]:
    """Packs this process's first questions, each with a response without reasoning whose letter and end are learned.

    A fine-tuned model is sure of the end and torn between the letters at worst; one that guesses is so among all
    tokens.

    Returns:
        A pack, see `steps.packed`. A process for which no question is left takes the first.
    """
    own = questions[process::num_processes][:NUM_QUESTIONS] or questions[:1]
    return packed([encoder.encode(_letter(question, style, encoder)) for question in own], filler(encoder))


def _letter(question: Question, style: PromptStyle, encoder: Encoder) -> Sample:
    asked = prompt(question.messages(style), question.images, encoder.processor, question.id)
    return Sample(asked.text + _GIVEN, question.images, "continuation", continuation=question.answer + _CLOSING)
