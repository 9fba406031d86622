"""Scores responses: the one meaning of accuracy and of think-answer consistency in all stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from pathoflow.qa.extraction import comparable, extract, named_option
from pathoflow.qa.question import Question, polarity
from pathoflow.qa.response import parse
from pathoflow.qa.statistics import Proportion, proportion


def is_correct(response: str, question: Question) -> bool:
    """Returns whether the answer that can be read from a response is the right one; an unreadable one is wrong.

    The `dev_accuracy` of `sft` and `rl` and the accuracies of `vqa_benchmarks` are shares of this. An open question
    is answered rightly by its very answer alone, but for case, width of characters and punctuation at the ends.

    Args:
        response: Everything that the model wrote.
        question: What was asked.

    >>> question = Question("q1", "A lipoma B melanoma", (), ("lipoma", "melanoma"), "B")
    >>> is_correct("<think>Black.</think><answer>melanoma</answer>", question)
    True
    >>> is_correct("This is not melanoma.", question)
    False
    """
    answer = extract(response, question).answer
    if answer is None:
        return False
    if question.kind == "yes_no":
        return answer == polarity(question.answer)
    if question.kind == "open":
        return comparable(answer) == comparable(question.answer)
    return answer == question.answer


def accuracy(correct: Sequence[bool]) -> Proportion:
    """Returns the share of right answers with its 95 % Wilson interval.

    Raises:
        ValueError: There is no answer.
    """
    return proportion(sum(correct), len(correct))


def think_answer_consistent(response: str, question: Question) -> bool:
    """Returns whether the reasoning names exactly one option, and that is the one answered.

    >>> question = Question("q1", "A lipoma B melanoma", (), ("lipoma", "melanoma"), "B")
    >>> think_answer_consistent("<think>Yellow lobules: Lipoma.</think><answer>A</answer>", question)
    True
    >>> think_answer_consistent("<think>Yellow lobules: Lipoma.</think><answer>B</answer>", question)
    False
    """
    named = named_option(parse(response).thinking, question.options)
    return named is not None and named == extract(response, question).answer


def chance(questions: Sequence[Question]) -> float:
    """Returns the accuracy that guessing has on average; an open question is never guessed.

    >>> chance([Question("q1", "Is it?", (), (), "yes"), Question("q2", "A x B y", (), ("x", "y"), "A")])
    0.5
    """
    num_answers = {"yes_no": 2.0, "open": math.inf}
    return fmean(1 / num_answers.get(question.kind, len(question.options)) for question in questions)
