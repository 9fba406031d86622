"""Greedy answers of a model to many prompts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch

from pathoflow.training.samples import Encoder
from pathoflow.training.steps import Encoded


@torch.no_grad()  # type: ignore[untyped-decorator]
def respond(
    model: Any, encoder: Encoder, prompts: Iterable[Encoded], *, batch_size: int, max_new_tokens: int
) -> list[str]:
    """The model's most likely continuation of each encoded prompt, found greedily in batches padded on the left.

    The model is left in the mode (training or evaluation) in which it came.
    """
    was_training = model.training
    model.eval()
    responses: list[str] = []
    remaining = iter(prompts)
    while encoded := list(islice(remaining, batch_size)):
        batch = encoder.batch(encoded, left=True)
        inputs = {key: value.to(model.device) for key, value in batch.items() if key not in ("labels", "weights")}
        output = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            suppress_tokens=[encoder.image_token_id],
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        responses += encoder.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    model.train(was_training)
    return responses
