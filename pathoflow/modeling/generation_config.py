"""Builds the complete generation configuration of evaluations, so that nothing of a checkpoint's applies."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

from pathoflow.modeling.tokenizer import IMAGE_PAD, TURN_END, VIDEO_PAD


def greedy_decoding(tokenizer: Any, max_new_tokens: int) -> GenerationConfig:
    """Returns a configuration for greedy decoding without penalties, up to the end of the turn or `max_new_tokens`.

    transformers fills what a configuration leaves at its default from the model's own; `loading.load` leaves nothing
    there but the ends of texts.

    Args:
        tokenizer: Knows the tokens that end a turn.
        max_new_tokens: Longest response, in tokens.
    """
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted({tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN_END)}),
        pad_token_id=tokenizer.pad_token_id,
        # A model would be asked to show an image that nobody gave it.
        suppress_tokens=tokenizer.convert_tokens_to_ids([IMAGE_PAD, VIDEO_PAD]),
    )
