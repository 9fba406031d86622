"""Words what a model is asked: the system prompts, and how a question with options is put to it.

Every stage that writes, trains on or scores such a question renders it here, so that they cannot drift apart.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

PromptStyle = Literal["cot", "cod", "short"]
"""Chain of thought, chain of draft, or the bare question for models too small for instructions."""

COT_SYSTEM_PROMPT = (
    "You are a pathology expert, your task is to answer question step by step. Use the following format:"
    "<think> Your step-by-step reasoning </think><answer> Your final answer </answer>"
)
"""Source: the authors' repository, chain-of-thought prompt."""

COD_SYSTEM_PROMPT = (
    "You are a pathology expert, your task is to think step by step, but only keep a minimum draft for each "
    "thinking step, with 5 words at most. Return the answer at the end of the response after a separator. "
    "Use the following format:"
    "<think> Your step-by-step reasoning </think><answer> Your final answer </answer>"
)
"""Source: the authors' repository, chain-of-draft prompt (the paper's "Chain-of-Decision", its reference 58)."""

SYSTEM_PROMPTS: dict[PromptStyle, str | None] = {
    "cot": COT_SYSTEM_PROMPT,
    "cod": COD_SYSTEM_PROMPT,
    "short": None,
}

LETTERS = string.ascii_uppercase
"""The letters of options, in order; the paper's questions have at most six."""

_OPTION_MARKS = ("{}. ", "{} ", "{}) ", "({}) ", "{}: ", "{}、", "{}．")
"""Marks of options that are read; the first two are those that `mcq_text` writes."""

DIAGNOSIS_QUESTION = {"en": "What is the most likely diagnosis?", "zh": "最可能的诊断是什么？"}


class Part(TypedDict):
    """A piece of a message: an image's place (`text` is None), or text."""

    type: str
    text: str | None


class Message(TypedDict):
    """One turn of a conversation, in the shape of the REASONING schema."""

    role: str
    content: list[Part]


def mcq_text(options: Sequence[str], style: PromptStyle, question: str = DIAGNOSIS_QUESTION["en"]) -> str:
    """Words a question with options for the user's turn, one option a line.

    The short style leaves the question out: the options say what is asked, and each token counts.

    Raises:
        ValueError: There are too few or too many options for letters.

    >>> print(mcq_text(["lipoma", "melanoma"], "cot"))
    What is the most likely diagnosis?
    A. lipoma
    B. melanoma
    >>> print(mcq_text(["lipoma", "melanoma"], "short"))
    A lipoma
    B melanoma
    """
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"a question has 2 to {len(LETTERS)} options, not {len(options)}")
    if style == "short":
        return _option_lines(options, "{} ")
    return f"{question}\n{_option_lines(options, '{}. ')}"


def options_in(text: str) -> tuple[str, ...]:
    r"""Returns the options with which a user's text ends, one a line from A on; none if it ends otherwise.

    >>> options_in("A 50-year-old man. What is it?\nA. lipoma\nB. a naevus")
    ('lipoma', 'a naevus')
    >>> options_in("Describe.")
    ()
    """
    lines = text.split("\n")
    for mark in _OPTION_MARKS:
        num = next((num for num, letter in enumerate(LETTERS, 1) if lines[-1].startswith(mark.format(letter))), 0)
        marks = [mark.format(letter) for letter in LETTERS[:num]]
        if 2 <= num <= len(lines) and all(map(str.startswith, lines[-num:], marks)):
            return tuple(map(str.removeprefix, lines[-num:], marks))
    return ()


def with_options_reordered(text: str, options: Sequence[str], order: Sequence[int]) -> str:
    r"""Returns a text that ends with options, one a line from A on, with them in another order.

    Raises:
        ValueError: The text does not end with the options.

    >>> print(with_options_reordered("What is it?\nA. lipoma\nB. melanoma", ["lipoma", "melanoma"], [1, 0]))
    What is it?
    A. melanoma
    B. lipoma
    """
    for mark in _OPTION_MARKS:
        if text.endswith(lines := _option_lines(options, mark)):
            return text.removesuffix(lines) + _option_lines([options[at] for at in order], mark)
    raise ValueError(f"the question does not end with its options: {text!r}")


def _option_lines(options: Sequence[str], mark: str) -> str:
    return "\n".join(mark.format(letter) + option for letter, option in zip(LETTERS, options, strict=False))


def response_text(thinking: str, answer: str) -> str:
    """Builds a response in the shape that the format reward asks for.

    >>> response_text("Yellow lobules.", "A")
    '<think>Yellow lobules.</think><answer>A</answer>'
    """
    return f"<think>{thinking}</think><answer>{answer}</answer>"


def prompt_messages(text: str, style: PromptStyle, *, num_images: int = 1) -> list[Message]:
    """Builds the messages before the model's turn: the style's system prompt if it has one, then the images and `text`.

    >>> [message["role"] for message in prompt_messages("A lipoma", "short")]
    ['user']
    >>> [part["type"] for part in prompt_messages("A lipoma", "cot")[-1]["content"]]
    ['image', 'text']
    """
    images = [Part(type="image", text=None) for _ in range(num_images)]
    user = Message(role="user", content=[*images, Part(type="text", text=text)])
    system = SYSTEM_PROMPTS[style]
    return [user] if system is None else [text_message("system", system), user]


def text_message(role: str, text: str) -> Message:
    """Builds a message of text alone."""
    return Message(role=role, content=[Part(type="text", text=text)])


def chat_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Shapes messages as chat templates want them: an image's part has no `text` key.

    Parquet fills the key with null in every part, and templates ask only whether it is there.

    >>> chat_messages(prompt_messages("A lipoma", "short"))[0]["content"][0]
    {'type': 'image'}
    """
    return [
        {
            "role": message["role"],
            "content": [
                {key: value for key, value in part.items() if value is not None} for part in message["content"]
            ],
        }
        for message in messages
    ]
