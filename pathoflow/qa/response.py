"""Takes a response apart into reasoning and answer: the one reader of `<think>` and `<answer>` tags."""

from __future__ import annotations

import re
from dataclasses import dataclass

_THINKING = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_WELL_FORMED = re.compile(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)
_NUM_TAGS = 4


@dataclass(frozen=True)
class Response:
    """The parts of a response.

    Attributes:
        thinking: The first `<think>` block; empty if there is none.
        answer: The only `<answer>` block; None if there is none or there are several.
        final: The text to read the answer from: the first `<answer>` block, empty if other tags are in it; without
            a block what follows the reasoning, bare of tags.
        well_formed: Whether it is one `<think>…</think>` and then one `<answer>…</answer>`, with nothing but white
            space around them.
    """

    thinking: str
    answer: str | None
    final: str
    well_formed: bool


def parse(text: str) -> Response:
    """Takes a response apart; every text has parts.

    >>> parse("<think>Yellow lobules.</think><answer> A </answer>")
    Response(thinking='Yellow lobules.', answer=' A ', final=' A ', well_formed=True)
    >>> parse("<think>Yellow lobules.</think> So A.")
    Response(thinking='Yellow lobules.', answer=None, final=' So A.', well_formed=False)
    """
    thinking = _THINKING.search(text)
    block = _ANSWER.search(text)
    final = block[1] if block else without_tags(text.rpartition("</think>")[2])
    return Response(
        thinking=thinking[1] if thinking else "",
        answer=block[1] if block and text.count("<answer>") == 1 else None,
        final="" if _TAG.search(final) else final,
        well_formed=bool(_WELL_FORMED.fullmatch(text)) and len(_TAG.findall(text)) == _NUM_TAGS,
    )


def without_tags(text: str) -> str:
    """Returns a response as plain text, a space in place of each tag.

    >>> without_tags("<think>Yellow.</think><answer>A</answer>")
    ' Yellow.  A '
    """
    return _TAG.sub(" ", text)
