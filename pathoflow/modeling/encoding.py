"""From rows to batches: texts with images, and the mask that says which tokens are learned."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

import torch
from PIL import Image

from pathoflow.data.image_io import UnreadableImage, decode, encode_png
from pathoflow.data.trainable.image_checks import MAX_PIXELS
from pathoflow.data.trainable.text_checks import Fault
from pathoflow.errors import InputError
from pathoflow.modeling.positions import multimodal_positions
from pathoflow.modeling.processor import Qwen2_5_VLProcessor
from pathoflow.modeling.tokenizer import IMAGE, IMAGE_PAD, TURN_END, TURN_START, VIDEO_PAD, VISION_END, VISION_START
from pathoflow.qa.prompts import chat_messages

Item = TypeVar("Item", bound=Hashable)

IGNORED = -100
"""The label of a token that is not learned; the value is PyTorch's."""

Encoded = dict[str, torch.Tensor]
"""One sample as `Encoder.encode` makes it."""

Targets = Literal["text", "assistant", "continuation"]


@dataclass(frozen=True)
class Sample:
    """One text to learn from.

    Attributes:
        text: The rendered text; each image stands in it as `modeling.tokenizer.IMAGE`.
        images: The encoded images, in the order of their places.
        targets: Learn every token of the text, or the assistant's turns alone, or only what continues the text.
        continuation: Follows the text.
        weight: How much each learned token counts in the loss.
        sizes: Width and height of each image, where they are known without opening it. Such a sample can be measured
            without its images.
        name: What its user would call it, for messages.
    """

    text: str
    images: Sequence[bytes]
    targets: Targets
    continuation: str = ""
    weight: float = 1.0
    sizes: Sequence[tuple[int, int]] | None = None
    name: str = ""


def conversation(
    messages: Sequence[Any], images: Sequence[bytes], processor: Qwen2_5_VLProcessor, name: str = ""
) -> Sample:
    """A conversation of which the assistant's turns are learned."""
    text = processor.apply_chat_template(chat_messages(messages), tokenize=False)
    return Sample(text, images, "assistant", name=name)


def prompt(messages: Sequence[Any], images: Sequence[bytes], processor: Qwen2_5_VLProcessor, name: str = "") -> Sample:
    """A conversation up to where the assistant is to speak."""
    text = processor.apply_chat_template(chat_messages(messages), tokenize=False, add_generation_prompt=True)
    return Sample(text, images, "continuation", name=name)


class UnlearnableImage(InputError):
    """An image cannot be decoded, though its header and its end looked sound.

    Attributes:
        fault: A reason to count by, and what was found.
    """

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


class Encoder:
    """Turns samples into token ids, labels, weights and pixels, and lists of them into padded batches.

    Args:
        processor: Splits texts into tokens and images into patches.
        answer_weight: How much the tokens between `<answer>` and `</answer>` count in the loss of an assistant's
            turn; others count 1.
    """

    def __init__(self, processor: Qwen2_5_VLProcessor, answer_weight: float = 1.0) -> None:
        tokenizer = processor.tokenizer
        self._answer_weight = answer_weight
        self._answer_tags = [tokenizer(tag)["input_ids"] for tag in ("<answer>", "</answer>")]
        self.processor = processor
        self.image_token_id: int = processor.image_token_id
        self.pad_token_id: int = tokenizer.pad_token_id
        self._merge_size: int = processor.image_processor.merge_size
        self._merge = self._merge_size**2
        self._turn_end: int = tokenizer.convert_tokens_to_ids(TURN_END)
        self._assistant: list[int] = tokenizer(f"{TURN_START}assistant")["input_ids"]
        vision = (IMAGE_PAD, VIDEO_PAD, VISION_START, VISION_END)
        self._vision_ids = torch.tensor(tokenizer.convert_tokens_to_ids(vision))

    def encode(self, sample: Sample) -> Encoded:
        """One sample's `input_ids`, `labels`, `weights` `[L]`, `positions` `[3, L]` and, with images, pixels and grid.

        Raises:
            UnlearnableImage: An image cannot be decoded.
        """
        text, pixels = sample.text, {}
        if sample.images:
            pictures = self._decoded(sample)
            pixels = dict(self.processor.image_processor(pictures, return_tensors="pt"))
            text = self._with_image_tokens(text, pixels["image_grid_thw"])
        ids: list[int] = self.processor.tokenizer(text)["input_ids"]
        num_given = len(ids) if sample.targets == "continuation" else 0
        ids += self.processor.tokenizer(sample.continuation)["input_ids"] if sample.continuation else []
        input_ids = torch.tensor(ids)
        labels = self.labels(input_ids, sample.targets)
        labels[:num_given] = IGNORED
        weights = torch.full(labels.shape, sample.weight)
        if self._answer_weight != 1.0:
            for start, end in self._answers(ids):
                weights[start:end] *= self._answer_weight
        positions = multimodal_positions(input_ids, pixels.get("image_grid_thw"), self.image_token_id, self._merge_size)
        return {"input_ids": input_ids, "labels": labels, "weights": weights, "positions": positions, **pixels}

    def _decoded(self, sample: Sample) -> list[Image.Image]:
        try:
            return [decode(image, max_pixels=MAX_PIXELS) for image in sample.images]
        except UnreadableImage as error:
            raise UnlearnableImage(
                f"The image of {sample.name or sample.text[:80]!r} cannot be learned from, though its header looked "
                f"sound: {error}. Make the data set anew from whole images.",
                (error.reason, error.detail),
            ) from error

    def _with_image_tokens(self, text: str, grid: torch.Tensor) -> str:
        pieces = text.split(IMAGE_PAD)
        if len(pieces) != len(grid) + 1:
            raise ValueError(f"{len(pieces) - 1} places for {len(grid)} images in {text[:200]!r}")
        counts = (grid.prod(dim=1) // self._merge).tolist()
        filled = (IMAGE_PAD * count + piece for count, piece in zip(counts, pieces[1:], strict=True))
        return pieces[0] + "".join(filled)

    def measure(self, samples: Sequence[Sample]) -> list[tuple[int, list[int]]]:
        """Counts the tokens of each sample and the patches of each image, without decoding any."""
        if not samples:
            return []
        texts = self.processor.measure([sample.text for sample in samples], [sizes_of(sample) for sample in samples])
        continuations = self.processor.measure([sample.continuation for sample in samples], [()] * len(samples))
        return [
            (num_tokens + num_following, patches)
            for (num_tokens, patches), (num_following, _) in zip(texts, continuations, strict=True)
        ]

    def labels(self, input_ids: torch.Tensor, targets: Targets) -> torch.Tensor:
        """`input_ids` `[L]` with everything that is not learned set to -100.

        Image tokens never are. With `assistant`, what is learned runs from behind each `<|im_start|>assistant`
        up to and including the `<|im_end|>` that closes the turn.
        """
        labels = input_ids.clone()
        labels[torch.isin(input_ids, self._vision_ids)] = IGNORED
        if targets == "assistant":
            learned = torch.zeros_like(labels, dtype=torch.bool)
            for start, end in self._assistant_turns(input_ids.tolist()):
                learned[start:end] = True
            labels[~learned] = IGNORED
        return labels

    def _answers(self, ids: list[int]) -> list[tuple[int, int]]:
        opening, closing = self._answer_tags
        ends = _occurrences(ids, closing)
        starts = [start + len(opening) for start in _occurrences(ids, opening)]
        return [(start, next((end for end in ends if end >= start), len(ids))) for start in starts]

    def _assistant_turns(self, ids: list[int]) -> list[tuple[int, int]]:
        opening = self._assistant
        # One more token holds the end of the line, and those with which the turn begins, if it does with some.
        starts = [start + len(opening) + 1 for start in _occurrences(ids, opening)]
        ends = (next((i for i in range(start, len(ids)) if ids[i] == self._turn_end), len(ids)) for start in starts)
        return [(start, end + 1) for start, end in zip(starts, ends, strict=True)]

    def batch(self, samples: Sequence[Encoded], *, left: bool = False) -> dict[str, torch.Tensor]:
        """Pads encoded samples to one length: on the right for training, on the `left` for generation."""

        def padded(key: str, value: int) -> torch.Tensor:
            rows = [sample[key] for sample in samples]
            return torch.nn.utils.rnn.pad_sequence(
                rows, batch_first=True, padding_value=value, padding_side="left" if left else "right"
            )

        lengths = [torch.ones_like(sample["input_ids"]) for sample in samples]
        input_ids = padded("input_ids", self.pad_token_id)
        batch = {
            "input_ids": input_ids,
            "labels": padded("labels", IGNORED),
            "weights": padded("weights", 0),
            "attention_mask": torch.nn.utils.rnn.pad_sequence(
                lengths, batch_first=True, padding_side="left" if left else "right"
            ),
            "mm_token_type_ids": (input_ids == self.image_token_id).int(),
        }
        for key in ("pixel_values", "image_grid_thw"):
            if parts := [sample[key] for sample in samples if key in sample]:
                batch[key] = torch.cat(parts)
        return batch


def sizes_of(sample: Sample) -> Sequence[tuple[int, int]]:
    """Width and height of each image of a sample."""
    if sample.sizes is not None:
        return sample.sizes
    sizes = []
    for data in sample.images:
        # As it lies: upright it has as many patches.
        with Image.open(io.BytesIO(data)) as image:
            sizes.append(image.size)
    return sizes


def filler(encoder: Encoder) -> Encoded:
    """Encodes the smallest image, of which nothing is learned."""
    return encoder.encode(Sample(IMAGE, [encode_png(Image.new("RGB", (28, 28)))], "text"))


def remembering(encoded: Callable[[Item], Encoded], number: int) -> Callable[[Item], Encoded]:
    """Returns `encoded` that keeps so many of its results in memory, dropping those least recently used."""
    return lru_cache(maxsize=number)(encoded) if number else encoded


def _occurrences(ids: list[int], sought: list[int]) -> list[int]:
    """Returns the positions at which `sought` begins in `ids`.

    >>> _occurrences([5, 1, 2, 1, 2], [1, 2])
    [1, 3]
    """
    return [i for i in range(len(ids) - len(sought) + 1) if ids[i : i + len(sought)] == sought]
