"""Measures what can be scored without a look at the image, by guessers that see nothing but the options.

A test in which one of them beats chance does not measure seeing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pathoflow.data.lexicon import Diagnosis
from pathoflow.qa.prompts import LETTERS


@dataclass(frozen=True)
class OptionSet:
    """The options of a question in order, and which one is right, counted from 0."""

    options: tuple[Diagnosis, ...]
    answer: int


Guesser = Callable[[tuple[Diagnosis, ...]], Sequence[float]]
"""Gives each option a score; the guess is drawn evenly from the best ones."""


def guessers(train: Sequence[OptionSet]) -> dict[str, Guesser]:
    """Builds guessers by name; some learn from the training questions what is often right."""
    letters = Counter(question.answer for question in train)
    right = Counter(question.options[question.answer].id for question in train)
    offered = Counter(option.id for question in train for option in question.options)
    return {
        "favourite_letter": lambda options: [letters[place] for place in range(len(options))],
        "favourite_diagnosis": lambda options: [right[option.id] for option in options],
        "often_right_when_offered": lambda options: [
            right[option.id] / max(offered[option.id], 1) for option in options
        ],
        "sibling_present": lambda options: [float(_has_sibling(option, options)) for option in options],
        "sibling_absent": lambda options: [float(not _has_sibling(option, options)) for option in options],
        "common_subfield": lambda options: [_num_alike(option, options) for option in options],
        "rare_subfield": lambda options: [-_num_alike(option, options) for option in options],
        "longest": lambda options: [len(option.name) for option in options],
        "shortest": lambda options: [-len(option.name) for option in options],
    }


def accuracy(guesser: Guesser, questions: Sequence[OptionSet]) -> float:
    """Returns the share of questions that a guesser gets right on average over its ties."""
    return sum(_probability(guesser(question.options), question.answer) for question in questions) / len(questions)


def letter_share(questions: Sequence[OptionSet]) -> dict[str, float]:
    """Counts how often each letter is the answer, as a share.

    >>> a, b = (Diagnosis(id=i, name=i, name_zh=i, subfield="s", tissue_system="t", sibling="x") for i in "ab")
    >>> letter_share([OptionSet((a, b), 0), OptionSet((a, b), 1)])
    {'A': 0.5, 'B': 0.5}
    """
    counts = Counter(question.answer for question in questions)
    num_options = max(len(question.options) for question in questions)
    return {LETTERS[place]: counts[place] / len(questions) for place in range(num_options)}


def _probability(scores: Sequence[float], answer: int) -> float:
    best = max(scores)
    return (scores[answer] == best) / sum(score == best for score in scores)


def _has_sibling(option: Diagnosis, options: Sequence[Diagnosis]) -> bool:
    return any(other.id == option.sibling for other in options)


def _num_alike(option: Diagnosis, options: Sequence[Diagnosis]) -> int:
    return sum(other.subfield == option.subfield for other in options)
