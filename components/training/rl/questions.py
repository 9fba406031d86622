"""The multiple-choice questions as the trainer and the dev measurement want them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from PIL import Image

from pathoflow.data.image_io import decode
from pathoflow.data.trainable.image_checks import MAX_PIXELS
from pathoflow.qa.prompts import LETTERS, PromptStyle, chat_messages, prompt_messages, with_options_reordered


@dataclass(frozen=True)
class Question:
    """One question with its answer.

    Attributes:
        name: Its `mcq_id`.
        text: What the user asks, options included.
        images: The encoded images.
        options: The options' texts.
        answer: The right letter.
        style: Chooses the system prompt.
    """

    name: str
    text: str
    images: tuple[bytes, ...]
    options: tuple[str, ...]
    answer: str
    style: PromptStyle

    @classmethod
    def of_row(cls, row: Mapping[str, Any], style: PromptStyle) -> Question:
        """The question in a row of the MCQ schema that has no fault."""
        images = tuple(image["bytes"] for image in row["images"])
        return cls(row["mcq_id"], row["prompt"], images, tuple(row["options"]), row["answer"], style)

    def reordered(self, order: Sequence[int]) -> Question:
        r"""The same question with its options in another order.

        >>> question = Question("q1", "A lipoma\nB melanoma", (), ("lipoma", "melanoma"), "B", "short")
        >>> question.reordered([1, 0]).text, question.reordered([1, 0]).answer
        ('A melanoma\nB lipoma', 'A')
        """
        text = with_options_reordered(self.text, self.options, order)
        options = tuple(self.options[at] for at in order)
        answer = LETTERS[order.index(LETTERS.index(self.answer))]
        return replace(self, text=text, options=options, answer=answer)

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation before the model's turn; images stand in it as empty places."""
        return chat_messages(prompt_messages(self.text, self.style, num_images=len(self.images)))

    def pictures(self) -> list[Image.Image]:
        """The decoded images.

        Raises:
            UnreadableImage: One of them cannot be decoded.
        """
        return [decode(image, max_pixels=MAX_PIXELS) for image in self.images]
