"""Reads the chosen option out of what a model wrote.

The rules are VLMEvalKit's (`can_infer`), behind the paper's format: what stands in `<answer>` counts first. Each rule
gives an answer or passes; what no rule can read is a wrong answer, never a random option.

Differs from source: a phrase "answer is X" is read too; a long text may still name its option; a refusal is unreadable
like any other text; text of the reasoning never counts as the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pathoflow.qa.prompts import LETTERS

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_THINKING = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
# "answer is a lipoma" and "answer is B-cell lymphoma" name no letter.
_ANSWER_IS = re.compile(r"(?i:\banswer\s*(?:is|:)\s*(?:option\s+)?|答案\s*[是为：:]\s*)[*(\[]*([A-Z])(?![\w-])")
_LAST_TOKENS = 5


def extract(response: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a response chooses, or None where no rule can read one.

    Args:
        response: Everything that the model wrote.
        options: Texts of the options without letters, A first.

    >>> options = ["lipoma", "melanoma", "tubular adenoma"]
    >>> extract("<think>Black, so not A.</think><answer>B</answer>", options)
    'B'
    >>> extract("<answer> (C). </answer><answer>A</answer>", options)
    'C'
    >>> extract("The answer is B because the lesion is flat and black and not yellow", options)
    'B'
    >>> extract("<think>Yellow lobules.</think><answer>Lipoma</answer>", options)
    'A'
    >>> extract("Either lipoma or melanoma", options), extract("<answer>E</answer>", options), extract("", options)
    (None, None, None)
    """
    text = _final_part(response)
    letters = LETTERS[: len(options)]
    return _single_letter(text, letters) or _answer_is(text, letters) or named_option(text, options)


def thinking(response: str) -> str:
    """What stands in the first `<think>` block.

    >>> thinking("<think>Yellow lobules.</think><answer>A</answer>"), thinking("A")
    ('Yellow lobules.', '')
    """
    block = _THINKING.search(response)
    return block[1] if block else ""


def named_option(text: str, options: Sequence[str]) -> str | None:
    """The letter of the one option whose text occurs, in any case; None if none does, or several do.

    >>> named_option("Large round glands: Tubular adenoma", ["villous adenoma", "tubular adenoma"])
    'B'
    >>> named_option("tubular or villous adenoma; tubular adenoma?", ["villous adenoma", "tubular adenoma"])
    """
    lowered = text.lower()
    found = [letter for letter, option in zip(LETTERS, options, strict=False) if option.lower() in lowered]
    return found[0] if len(found) == 1 else None


def _final_part(response: str) -> str:
    """The first answer block; without one, what follows the reasoning, bare of tags."""
    if block := _ANSWER.search(response):
        return block[1]
    return _TAG.sub(" ", response.rpartition("</think>")[2])


def _single_letter(text: str, letters: str) -> str | None:
    """The one option letter that stands alone in a text, if it is among the last tokens.

    >>> _single_letter("so I choose B.", "ABCD"), _single_letter("A or B", "ABCD")
    ('B', None)
    >>> _single_letter("A picture of many small blue cells", "ABCD")
    """
    tokens = text.translate(_PUNCTUATION).split()
    found = [letter for letter in letters if letter in tokens]
    return found[0] if len(found) == 1 and found[0] in tokens[-_LAST_TOKENS:] else None


def _answer_is(text: str, letters: str) -> str | None:
    """The letter after "answer is" or "answer:", if all such phrases agree.

    >>> _answer_is("The answer is (B), I think", "ABCD"), _answer_is("Answer: A. No, the answer is C", "ABCD")
    ('B', None)
    >>> _answer_is("The answer is a B-cell lymphoma", "ABCD")
    """
    found = set(_ANSWER_IS.findall(text)) & set(letters)
    return found.pop() if len(found) == 1 else None
