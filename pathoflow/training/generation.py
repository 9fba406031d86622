"""Greedy answers of a model to many prompts, which the processes of a run share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object

from pathoflow.modeling.generation_config import greedy_decoding
from pathoflow.training.samples import Encoder
from pathoflow.training.steps import Encoded, filler


def rounds(num: int, process: int, num_processes: int, batch_size: int) -> list[range]:
    """The numbers below `num` that one process takes in each round; the last may leave it nothing.

    Every process has as many rounds. Where weights are spread over processes (ZeRO-3), one that calls the model less
    often than the others leaves them waiting for its share of the weights for ever.

    >>> rounds(5, 0, 2, 2), rounds(5, 1, 2, 2)
    ([range(0, 4, 2), range(4, 6, 2)], [range(1, 5, 2), range(5, 5, 2)])
    """
    own = range(process, num, num_processes)
    most = -(-num // num_processes)
    return [own[start : start + batch_size] for start in range(0, most, batch_size)]


def answer_all(
    model: Any,
    encoder: Encoder,
    encoded: Callable[[int], Encoded],
    num: int,
    *,
    process: int,
    num_processes: int,
    batch_size: int,
    max_new_tokens: int,
) -> list[str]:
    """The model's answers to the prompts `encoded(0)` to `encoded(num - 1)`, in this order and in every process.

    All processes must call it together. The model is left in the mode (training or evaluation) in which it came.

    Args:
        model: Generates.
        encoder: Pads the prompts of a batch.
        encoded: The prompt of a number.
        num: How many there are.
        process: This process's number.
        num_processes: How many share the prompts.
        batch_size: Prompts that a process answers at a time.
        max_new_tokens: Longest answer.
    """
    was_training = model.training
    model.eval()
    placeholder = filler(encoder)
    own = [
        pair
        for numbers in rounds(num, process, num_processes, batch_size)
        for pair in zip(
            numbers, respond(model, encoder, [encoded(at) for at in numbers], placeholder, max_new_tokens), strict=True
        )
    ]
    model.train(was_training)
    return [answer for _, answer in sorted(gather_object(own))]


@torch.no_grad()  # type: ignore[untyped-decorator]
def respond(
    model: Any, encoder: Encoder, prompts: Sequence[Encoded], placeholder: Encoded, max_new_tokens: int
) -> list[str]:
    """The model's most likely continuation of each encoded prompt, found greedily in one batch padded on the left.

    The model is called even for no prompts, and always with an image: with the `placeholder` where there is none, as
    in `steps.packed`. What follows on that is dropped. `generate` itself keeps in step processes whose answers are of
    different lengths.
    """
    has_image = any("pixel_values" in prompt for prompt in prompts)
    batch = encoder.batch([*prompts, *(() if has_image else (placeholder,))], left=True)
    inputs = {key: value.to(model.device) for key, value in batch.items() if key not in ("labels", "weights")}
    how = greedy_decoding(encoder.processor.tokenizer, max_new_tokens if prompts else 1)
    output = model.generate(**inputs, generation_config=how)
    new = output[: len(prompts), inputs["input_ids"].shape[1] :]
    return [encoder.processor.tokenizer.decode(ids, skip_special_tokens=True) for ids in new]
