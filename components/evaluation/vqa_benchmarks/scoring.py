"""Judges responses, and counts the verdicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pathoflow.qa import scoring
from pathoflow.qa.extraction import extract, named_option
from pathoflow.qa.question import Question
from pathoflow.qa.response import parse
from pathoflow.qa.statistics import Proportion


@dataclass(frozen=True)
class Verdict:
    """One response, its answer as it could be read (None: unreadable), and whether that is right.

    Attributes:
        question: What was asked.
        response: Everything that the model wrote.
        extracted: Its answer, see `extraction.Extracted`.
        correct: See `scoring.is_correct`.
        thought: The letter of the option that the thinking names, if it names exactly one.
        consistent: See `scoring.think_answer_consistent`.
    """

    question: Question
    response: str
    extracted: str | None
    correct: bool
    thought: str | None
    consistent: bool

    @classmethod
    def of(cls, question: Question, response: str) -> Verdict:
        """Judges a response."""
        return cls(
            question,
            response,
            extracted=extract(response, question).answer,
            correct=scoring.is_correct(response, question),
            thought=named_option(parse(response).thinking, question.options),
            consistent=scoring.think_answer_consistent(response, question),
        )


def judge(questions: Sequence[Question], responses: Sequence[str]) -> list[Verdict]:
    """Judges the response to each question."""
    return [Verdict.of(question, response) for question, response in zip(questions, responses, strict=True)]


def accuracy(verdicts: Sequence[Verdict]) -> Proportion:
    """Returns the share of right answers with its interval."""
    return scoring.accuracy([verdict.correct for verdict in verdicts])


def by_subfield(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Groups the verdicts by subfield, in alphabetical order."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in sorted(verdicts, key=lambda verdict: verdict.question.subfield):
        groups[verdict.question.subfield].append(verdict)
    return dict(groups)


def unreadable_share(verdicts: Sequence[Verdict]) -> float:
    """Returns the share of responses from which no answer could be read."""
    return _share([verdict.extracted is None for verdict in verdicts])


def consistent_share(verdicts: Sequence[Verdict]) -> float:
    """Returns the share of responses whose thinking names exactly the option that is then answered."""
    return _share([verdict.consistent for verdict in verdicts])


def thinking_accuracy(verdicts: Sequence[Verdict]) -> float:
    """Returns the share of responses whose thinking names exactly the right option, whatever is then answered."""
    return _share([verdict.thought == verdict.question.answer for verdict in verdicts])


def score_table(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Tables accuracy with its interval, overall and by subfield, as JSON values."""
    groups = {name: _row(members) for name, members in by_subfield(verdicts).items()}
    return {**_row(verdicts), "unreadable_share": unreadable_share(verdicts), "subfields": groups}


def _row(verdicts: Sequence[Verdict]) -> dict[str, float]:
    share = accuracy(verdicts)
    return {"num_items": len(verdicts), "accuracy": share.value, "low": share.low, "high": share.high}


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
