"""Checks the rules that every written sample must keep; one that breaks a rule is set aside.

Source: the paper's rule-based quality control looks for language mixing, endless repetition and broken format.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from components.data_processing.reasoning_data.config import Task
from pathoflow.data.image_io import language_of
from pathoflow.qa.prompts import LETTERS, Message, options_in, response_text
from pathoflow.qa.response import parse, without_tags

_HAN = re.compile(r"[㐀-䶿一-鿿豈-﫿]")
_UNIT = re.compile(r"[㐀-䶿一-鿿豈-﫿]|[^\W㐀-䶿一-鿿豈-﫿]+")


def fault(
    messages: Sequence[Message], *, task: Task, language: str, repeated_words: int, max_repeats: int
) -> tuple[str, str] | None:
    """Returns the first rule that a sample breaks, as a reason to count by and what was found; None if it keeps all.

    Args:
        messages: The conversation.
        task: What kind of sample it is.
        language: The language that it is meant to be in.
        repeated_words: Length of the word sequences that must not repeat endlessly.
        max_repeats: How often the same sequence may occur in a turn.
    """
    letters = None
    for message in messages:
        text = "".join(part["text"] or "" for part in message["content"])
        if message["role"] != "assistant":
            letters = LETTERS[: len(options_in(text))] if task == "mcq" else None
            continue
        if problem := format_fault(text, letters):
            return "format", problem
        words = without_tags(text)
        if mixes_languages(words, language):
            return "language_mixing", f"not only {language}: {words[:200]}"
        if repeats_endlessly(words, repeated_words, max_repeats):
            return "repetition", f"the same {repeated_words} words again and again: {words[:200]}"
    return None


def format_fault(text: str, letters: str | None) -> str | None:
    """Tells what is wrong with the shape of a response; None if nothing is.

    Args:
        text: The response.
        letters: Of which the answer must be one; None leaves it free.

    >>> format_fault("<think>Glands.</think><answer>B</answer>", "ABCD")
    >>> format_fault("<think>Glands.</think><answer>Adenoma</answer>", "ABCD")
    "the answer 'Adenoma' is not one letter of ABCD"
    """
    response = parse(text)
    thinking, answer = response.thinking, response.answer or ""
    filled = bool(thinking.strip() and answer.strip())
    if not (response.well_formed and filled and text == response_text(thinking, answer)):
        return f"not <think>…</think><answer>…</answer>, each once and filled: {text[:200]}"
    if letters is not None and answer not in tuple(letters):
        return f"the answer {answer!r} is not one letter of {letters}"
    return None


def mixes_languages(text: str, language: str) -> bool:
    """Returns whether a text leaves its language: any Han character in English; more Latin words than Han in Chinese.

    Chinese pathology writes its stains and markers in Latin letters.

    >>> mixes_languages("腺体 glands", "en"), mixes_languages("CD20免疫组化阳性", "zh")
    (True, False)
    """
    return bool(_HAN.search(text)) if language == "en" else language_of(text) != language


def repeats_endlessly(text: str, num_words: int, max_repeats: int) -> bool:
    """Returns whether any sequence of `num_words` words (Han characters) occurs more than `max_repeats` times.

    >>> repeats_endlessly("pink and blue " * 9, num_words=6, max_repeats=2)
    True
    """
    units = _UNIT.findall(text.casefold())
    sequences = Counter(tuple(units[start : start + num_words]) for start in range(len(units) - num_words + 1))
    return max(sequences.values(), default=0) > max_repeats
