"""Tells what keeps a pair, a conversation or a question from being learned or asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pathoflow.data.trainable.image_checks import MAX_PIXELS, image_fault
from pathoflow.data.trainable.text_checks import Fault, text_fault
from pathoflow.qa.prompts import LETTERS, with_options_reordered

_ROLES = ("system", "user", "assistant")
_PARTS = ("text", "image")


def pair_fault(row: Mapping[str, Any], *, with_references: bool) -> Fault | None:
    """Tells what keeps an image with its caption from being learned; None if nothing does.

    Args:
        row: A row of the PAIRS schema: `image`, `width`, `height`, `caption` and, with references, `inline_refs`.
        with_references: Whether the sentences that refer to the image are learned, too.
    """
    references = (row["inline_refs"] or ()) if with_references else ()
    return caption_fault(row["caption"], references) or image_fault(row["image"], (row["width"], row["height"]))


def caption_fault(caption: str | None, references: Sequence[str | None] = ()) -> Fault | None:
    """Tells what keeps a caption with the sentences that refer to its image from being learned.

    >>> caption_fault(" ")
    ('no_caption', 'the caption is empty')
    >>> caption_fault("A lipoma.", [None])
    ('empty_reference', 'a sentence that refers to the image is empty')
    """
    if not (caption or "").strip():
        return "no_caption", "the caption is empty"
    if not all((reference or "").strip() for reference in references):
        return "empty_reference", "a sentence that refers to the image is empty"
    return text_fault("\n".join(text for text in (caption, *references) if text))


def conversation_fault(row: Mapping[str, Any], *, whole: bool = False) -> Fault | None:
    """Tells what keeps a conversation from being learned; None if nothing does.

    Args:
        row: A row of the REASONING schema: `messages` and `images`.
        whole: Decode its images, instead of looking at their headers and ends alone.

    >>> conversation_fault({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hm?"}]}], "images": []})
    ('no_response', 'the last turn is not a response')
    """
    messages, images = row["messages"] or (), row["images"] or ()
    last = messages[-1] if messages else None
    if not last or last["role"] != "assistant" or not turn_text(last).strip():
        return "no_response", "the last turn is not a response"
    if fault := turns_fault(messages):
        return fault
    if not any(message["role"] == "user" for message in messages):
        return "no_question", "no turn is the user's"
    places = sum(part["type"] == "image" for message in messages for part in message["content"])
    if places != len(images):
        return "image_count", f"{places} places for {len(images)} images"
    return next((fault for image in images if (fault := image_fault(image, whole=whole))), None)


def turns_fault(messages: Sequence[Mapping[str, Any] | None]) -> Fault | None:
    """Tells what keeps turns from being put into a chat template.

    >>> turns_fault([{"role": "narrator", "content": [{"type": "text", "text": "Once upon a time"}]}])
    ('unknown_role', "turn 1 is spoken by 'narrator', not by one of system, user, assistant")
    >>> turns_fault([{"role": "user", "content": [{"type": "text", "text": " "}]}])
    ('empty_turn', 'turn 1 (user) says and shows nothing')
    """
    for number, message in enumerate(messages, start=1):
        if not message:
            return "empty_turn", f"turn {number} is missing"
        role, content = message["role"], [part or {"type": None} for part in message["content"] or ()]
        if role not in _ROLES:
            return "unknown_role", f"turn {number} is spoken by {role!r}, not by one of {', '.join(_ROLES)}"
        if unknown := [part["type"] for part in content if part["type"] not in _PARTS]:
            return "unknown_part", f"turn {number} has a part of type {unknown[0]!r}, not {' or '.join(_PARTS)}"
        if not turn_text(message).strip() and not any(part["type"] == "image" for part in content):
            return "empty_turn", f"turn {number} ({role}) says and shows nothing"
        if fault := text_fault(turn_text(message)):
            return fault
    return None


def turn_text(message: Mapping[str, Any]) -> str:
    """Returns what is said in a turn."""
    return "".join(part["text"] or "" for part in message["content"] or () if part)


def question_fault(row: Mapping[str, Any], *, reordered: bool = False, max_pixels: int = MAX_PIXELS) -> Fault | None:
    """Tells what keeps a multiple-choice question from being asked; None if nothing does. Its images are decoded.

    Args:
        row: A row of the MCQ schema: `prompt`, `images`, `options` and `answer`.
        reordered: Whether its options will be asked in other orders.
        max_pixels: Larger images are not decoded.
    """
    images = row["images"] or ()
    if fault := wording_fault(row["prompt"] or "", row["options"] or (), row["answer"], reordered=reordered):
        return fault
    if not images:
        return "no_image", "a question about nothing to see would be answered by guessing"
    return next((fault for image in images if (fault := image_fault(image, max_pixels=max_pixels, whole=True))), None)


def wording_fault(
    text: str, options: Sequence[str | None], answer: str | None, *, reordered: bool = False
) -> Fault | None:
    """Tells what keeps a question from being asked whatever it shows.

    >>> wording_fault("A lipoma", ["lipoma"], "A")
    ('option_count', 'it has 1 options; 2 to 26 have letters')
    >>> wording_fault("A lipoma B naevus", ["lipoma", "naevus"], "AB")
    ('bad_answer', "the answer 'AB' is no letter of its 2 options")
    """
    if not text.strip():
        return "no_question", "the question is empty"
    if not 2 <= len(options) <= len(LETTERS):
        return "option_count", f"it has {len(options)} options; 2 to {len(LETTERS)} have letters"
    names = [option for option in options if option and option.strip()]
    if len(names) < len(options):
        return "empty_option", "one of its options is empty"
    if answer not in list(LETTERS[: len(options)]):
        return "bad_answer", f"the answer {answer!r} is no letter of its {len(options)} options"
    if reordered:
        try:
            with_options_reordered(text, names, range(len(names)))
        except ValueError:
            return "options_elsewhere", "its text does not end with its options, which cannot be put in another order"
    return text_fault("\n".join((text, *names)))
