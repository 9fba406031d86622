"""What a model is asked: the system prompts, and how a question with options is put to it.

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
    """The user's text for a question with options, one option a line.

    The short style leaves the question out: the options say what is asked, and each token counts.

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
        return "\n".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=False))
    lines = (f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return "\n".join([question, *lines])


def with_options_reordered(text: str, options: Sequence[str], order: Sequence[int]) -> str:
    r"""A text of `mcq_text`, in either style, with its options in another order.

    Raises:
        ValueError: The text does not end with the options.

    >>> print(with_options_reordered("What is it?\nA. lipoma\nB. melanoma", ["lipoma", "melanoma"], [1, 0]))
    What is it?
    A. melanoma
    B. lipoma
    """
    for separator in (". ", " "):
        lines = "\n".join(f"{letter}{separator}{option}" for letter, option in zip(LETTERS, options, strict=False))
        if text.endswith(lines):
            reordered = (f"{letter}{separator}{options[at]}" for letter, at in zip(LETTERS, order, strict=False))
            return text.removesuffix(lines) + "\n".join(reordered)
    raise ValueError(f"the question does not end with its options: {text!r}")


def response_text(thinking: str, answer: str) -> str:
    """A response in the shape that the format reward asks for.

    >>> response_text("Yellow lobules.", "A")
    '<think>Yellow lobules.</think><answer>A</answer>'
    """
    return f"<think>{thinking}</think><answer>{answer}</answer>"


def prompt_messages(text: str, style: PromptStyle, *, num_images: int = 1) -> list[Message]:
    """The messages before the model's turn: the style's system prompt if it has one, then the images and `text`.

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
    """A message of text alone."""
    return Message(role=role, content=[Part(type="text", text=text)])


def chat_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Messages as chat templates want them: an image's part has no `text` key.

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
