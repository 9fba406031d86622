"""What the model's loss before the first step is taken of: the right letters of dev questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.training.rl.questions import Question
from pathoflow.qa.prompts import response_text
from pathoflow.training.samples import Encoder, Sample, prompt
from pathoflow.training.steps import filler, packed

NUM_QUESTIONS = 16
"""Questions per process; one pass shows them all."""
_GIVEN, _, _CLOSING = response_text("", "|").partition("|")


def letters(questions: Sequence[Question], encoder: Encoder, process: int, num_processes: int) -> dict[str, Any]:
    """The first questions of this process, each with a response without reasoning in which letter and end are learned.

    A fine-tuned model is sure of the end and torn between the letters at worst; one that guesses is so among all
    tokens.

    Returns:
        A pack, see `steps.packed`. A process for which no question is left takes the first.
    """
    own = questions[process::num_processes][:NUM_QUESTIONS] or questions[:1]
    return packed([encoder.encode(_letter(question, encoder)) for question in own], filler(encoder))


def _letter(question: Question, encoder: Encoder) -> Sample:
    asked = prompt(question.messages, question.images, encoder.processor, question.name)
    return Sample(asked.text + _GIVEN, question.images, "continuation", continuation=question.answer + _CLOSING)
