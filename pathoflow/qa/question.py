"""A question about images with its right answer: with options, to be answered by yes or no, or open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pathoflow.qa.prompts import LETTERS, PromptStyle, chat_messages, prompt_messages, with_options_reordered

Kind = Literal["choice", "yes_no", "open"]

_YES = {"yes", "是", "是的", "有"}
_NO = {"no", "否", "不", "不是", "没有", "无"}


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        id: Names it in predictions and in quarantine.
        prompt: The user's text, options included.
        images: The encoded images.
        options: The options' texts, A first; none for a question without options.
        answer: The right option's letter; yes or no; or the right text of an open question.
        subfield: Groups scores; empty where none is known.

    Raises:
        ValueError: There are too few or too many options for letters, or the answer is no letter of theirs.
    """

    id: str
    prompt: str
    images: tuple[bytes, ...]
    options: tuple[str, ...]
    answer: str
    subfield: str = ""

    def __post_init__(self) -> None:
        if not self.options:
            return
        if not 2 <= len(self.options) <= len(LETTERS):
            raise ValueError(f"{self.id}: {len(self.options)} options; 2 to {len(LETTERS)} have letters")
        if self.answer not in tuple(self.letters):
            raise ValueError(f"{self.id}: the answer {self.answer!r} is none of the letters {self.letters}")

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Question:
        """Returns the question in a row of the MCQ schema that has no fault."""
        images = tuple(image["bytes"] for image in row["images"])
        return cls(
            row["mcq_id"], row["prompt"], images, tuple(row["options"]), row["answer"], row.get("subfield") or ""
        )

    @property
    def kind(self) -> Kind:
        """The form of the answer: a choice, yes or no, or free text.

        >>> Question("q1", "Is it malignant?", (), (), "No").kind
        'yes_no'
        """
        if self.options:
            return "choice"
        return "open" if polarity(self.answer) is None else "yes_no"

    @property
    def letters(self) -> str:
        """The letters of its options, in order."""
        return LETTERS[: len(self.options)]

    def messages(self, style: PromptStyle) -> list[dict[str, Any]]:
        """Builds the conversation up to the model's turn; images stand in it as empty places."""
        return chat_messages(prompt_messages(self.prompt, style, num_images=len(self.images)))

    def reordered(self, order: Sequence[int]) -> Question:
        r"""Returns the same question with its options in another order.

        Args:
            order: For each place the number of the option that moves there.

        Raises:
            ValueError: The prompt does not end with the options.

        >>> question = Question("q1", "A lipoma\nB melanoma", (), ("lipoma", "melanoma"), "B")
        >>> question.reordered([1, 0]).prompt, question.reordered([1, 0]).answer
        ('A melanoma\nB lipoma', 'A')
        """
        return replace(
            self,
            prompt=with_options_reordered(self.prompt, self.options, order),
            options=tuple(self.options[at] for at in order),
            answer=LETTERS[order.index(LETTERS.index(self.answer))],
        )


def polarity(answer: str) -> Literal["yes", "no"] | None:
    """Returns which of yes and no a whole answer is, in English or Chinese; None if it is neither.

    >>> polarity("Yes"), polarity("否"), polarity("no atypia")
    ('yes', 'no', None)
    """
    word = answer.strip().casefold()
    return "yes" if word in _YES else "no" if word in _NO else None
