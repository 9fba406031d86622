"""From responses to verdicts, and from verdicts to figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.evaluation.vqa_benchmarks.extraction import extract, named_option, thinking
from components.evaluation.vqa_benchmarks.questions import Question
from pathoflow.qa.statistics import Proportion, proportion


@dataclass(frozen=True)
class Verdict:
    """One response, what was read from it (None: nothing could be), and whether that is right."""

    question: Question
    response: str
    extracted: str | None

    @property
    def correct(self) -> bool:
        """An unreadable answer is wrong."""
        return self.extracted == self.question.answer

    @property
    def thought(self) -> str | None:
        """The letter of the option that the thinking names, if it names exactly one."""
        return named_option(thinking(self.response), self.question.options)


def judge(questions: Sequence[Question], responses: Sequence[str]) -> list[Verdict]:
    """The verdict on each response."""
    return [
        Verdict(question, response, extract(response, question.options))
        for question, response in zip(questions, responses, strict=True)
    ]


def accuracy(verdicts: Sequence[Verdict]) -> Proportion:
    """The share of right answers with its interval."""
    return proportion(sum(verdict.correct for verdict in verdicts), len(verdicts))


def by_subfield(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts of each subfield, in alphabetical order."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in sorted(verdicts, key=lambda verdict: verdict.question.subfield):
        groups[verdict.question.subfield].append(verdict)
    return dict(groups)


def unreadable_share(verdicts: Sequence[Verdict]) -> float:
    """The share of responses from which no answer could be read."""
    return _share([verdict.extracted is None for verdict in verdicts])


def consistent_share(verdicts: Sequence[Verdict]) -> float:
    """The share of responses whose thinking names exactly the option that is then answered."""
    return _share([verdict.thought is not None and verdict.thought == verdict.extracted for verdict in verdicts])


def thinking_accuracy(verdicts: Sequence[Verdict]) -> float:
    """The share of responses whose thinking names exactly the right option, whatever is then answered."""
    return _share([verdict.thought == verdict.question.answer for verdict in verdicts])


def chance(questions: Sequence[Question]) -> float:
    """What guessing scores on average."""
    return sum(1 / len(question.options) for question in questions) / len(questions)


def score_table(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Accuracy with its interval, overall and by subfield, as JSON values."""
    groups = {name: _row(members) for name, members in by_subfield(verdicts).items()}
    return {**_row(verdicts), "unreadable_share": unreadable_share(verdicts), "subfields": groups}


def _row(verdicts: Sequence[Verdict]) -> dict[str, float]:
    share = accuracy(verdicts)
    return {"num_items": len(verdicts), "accuracy": share.value, "low": share.low, "high": share.high}


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
