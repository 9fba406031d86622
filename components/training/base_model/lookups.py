"""Texts that train one skill: finding the letter of an option in a list."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pathoflow.qa.prompts import LETTERS, Message, text_message

_OPTION = re.compile(rf"^(?P<mark>[{LETTERS}])(?P<gap>\.? )(?P<name>.+)$", re.MULTILINE)
# The thinking of fuller styles gives the letter away, which would be wrong in another order.
_GIVEN_AWAY = re.compile(rf"(?:option|选项)\s*[{LETTERS}]\b", re.IGNORECASE)
_RESPONSE = re.compile(rf"(?P<given>.*<answer>)(?P<letter>[{LETTERS}])</answer>", re.DOTALL)


class Lookup(NamedTuple):
    """A list of options, and a response that has named one of them and is about to give its letter.

    Attributes:
        question: The user's text, one option a line.
        given: The response up to the letter.
        letter: The letter, which alone is learned.
    """

    question: str
    given: str
    letter: str

    @property
    def messages(self) -> list[Message]:
        """The user's turn, without an image."""
        return [text_message("user", self.question)]


def find_lookups(conversations: Iterable[Sequence[Mapping[str, Any]]]) -> list[Lookup]:
    r"""The questions with options among the last turns whose response names the option and then gives its letter.

    >>> user = {"role": "user", "content": [{"type": "text", "text": "A lipoma\nB melanoma"}]}
    >>> text = "<think>black: melanoma</think><answer>B</answer>"
    >>> find_lookups([[user, {"role": "assistant", "content": [{"type": "text", "text": text}]}]])[0].given
    '<think>black: melanoma</think><answer>'
    """
    found = []
    for *_, question, response in (turns for turns in conversations if len(turns) > 1):
        asked, said = _text(question), _RESPONSE.fullmatch(_text(response))
        marks = [match["mark"] for match in _OPTION.finditer(asked)]
        if said and said["letter"] in marks and not _GIVEN_AWAY.search(said["given"]):
            found.append(Lookup(asked, said["given"], said["letter"]))
    return found


def reordered(lookups: Sequence[Lookup], number: int, seed: int) -> Iterator[Lookup]:
    """Yields `number` of the look-ups, each with its options in a new order.

    The thinking names the option to find, so nothing is learned here of what fits an image.
    """
    rng = random.Random(seed)
    for _ in range(number):
        lookup = rng.choice(lookups)
        options = {match["mark"]: match["name"] for match in _OPTION.finditer(lookup.question)}
        names = rng.sample(list(options.values()), len(options))
        lines = [
            f"{mark}{gap}{name}" for (mark, gap, _), name in zip(_OPTION.findall(lookup.question), names, strict=True)
        ]
        first = _OPTION.search(lookup.question)
        assert first is not None, "`find_lookups` saw options"
        question = lookup.question[: first.start()] + "\n".join(lines)
        yield Lookup(question, lookup.given, list(options)[names.index(options[lookup.letter])])


def _text(message: Mapping[str, Any]) -> str:
    return "".join(part["text"] or "" for part in message["content"])
