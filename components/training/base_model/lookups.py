"""Makes texts that train one skill: finding the letter of an option in a list."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pathoflow.qa.prompts import LETTERS, Message, options_in, text_message
from pathoflow.qa.question import Question
from pathoflow.qa.response import parse


class Lookup(NamedTuple):
    """A list of options, and a response that has named one of them and is about to give its letter.

    Attributes:
        question: Lists the options; its letter alone is learned.
        given: The response up to the letter.
    """

    question: Question
    given: str

    @property
    def letter(self) -> str:
        """The letter to look up."""
        return self.question.answer

    @property
    def messages(self) -> list[Message]:
        """The user's turn, without an image."""
        return [text_message("user", self.question.prompt)]


def find_lookups(conversations: Iterable[Sequence[Mapping[str, Any]]]) -> list[Lookup]:
    r"""Finds the questions with options among the last turns whose response names the option and then its letter.

    The thinking of fuller styles gives the letter away, which would be wrong in another order: such a response is
    passed over.

    >>> user = {"role": "user", "content": [{"type": "text", "text": "A lipoma\nB melanoma"}]}
    >>> text = "<think>black: melanoma</think><answer>B</answer>"
    >>> find_lookups([[user, {"role": "assistant", "content": [{"type": "text", "text": text}]}]])[0].given
    '<think>black: melanoma</think><answer>'
    """
    found = []
    for *_, asked, answered in (turns for turns in conversations if len(turns) > 1):
        prompt, text = _text(asked), _text(answered)
        options, response = options_in(prompt), parse(text)
        letters, letter = LETTERS[: len(options)], response.answer or ""
        closing = f"{letter}</answer>"
        given_away = letters and re.search(rf"(?:option\s+|选项\s*)[{letters}]\b", response.thinking, re.IGNORECASE)
        if response.well_formed and text.endswith(closing) and letter in tuple(letters) and not given_away:
            found.append(Lookup(Question("", prompt, (), options, letter), text.removesuffix(closing)))
    return found


def reordered(lookups: Sequence[Lookup], number: int, seed: int) -> Iterator[Lookup]:
    """Yields `number` of the look-ups, each with its options in a new order.

    The thinking names the option to find, so nothing is learned here of what fits an image.
    """
    rng = random.Random(seed)
    for _ in range(number):
        lookup = rng.choice(lookups)
        num_options = len(lookup.question.options)
        yield lookup._replace(question=lookup.question.reordered(rng.sample(range(num_options), num_options)))


def _text(message: Mapping[str, Any]) -> str:
    return "".join(part["text"] or "" for part in message["content"])
