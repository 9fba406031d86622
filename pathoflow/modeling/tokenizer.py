"""Trains a byte-level BPE tokenizer in Qwen2.5-VL's format."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken
from transformers.models.qwen2 import Qwen2Tokenizer

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE_PAD = "<|image_pad|>"
VIDEO_PAD = "<|video_pad|>"
IMAGE = f"{VISION_START}{IMAGE_PAD}{VISION_END}"
"""Placeholder of one image in a text; the processor repeats its middle once per image token."""

REASONING_TAGS = ("<think>", "</think>", "<answer>", "</answer>")

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    f"{TURN_START}{{{{ message['role'] }}}}{{{{ '\\n' }}}}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    f"{{%- if part['type'] == 'image' -%}}{IMAGE}{{%- else -%}}{{{{ part['text'] }}}}{{%- endif -%}}"
    "{%- endfor -%}{%- endif -%}"
    f"{TURN_END}{{{{ '\\n' }}}}"
    "{%- endfor -%}"
    f"{{%- if add_generation_prompt -%}}{TURN_START}assistant{{{{ '\\n' }}}}{{%- endif -%}}"
)
"""ChatML as Qwen2.5-VL writes it, without its default system message."""


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Qwen2Tokenizer:
    """Trains a tokenizer with Qwen2.5-VL's special tokens and pre-tokenisation on `texts`.

    The tags of reasoning are single tokens, as in Qwen3: they are structure, and each costs one step of
    generation instead of three. They stay visible when special tokens are skipped in decoding.

    Args:
        texts: Texts to learn the vocabulary from, in a stable order.
        vocabulary_size: Tokens in all, of which 256 are bytes and 11 are special tokens and tags.
    """
    untrained = Qwen2Tokenizer(
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[TURN_START, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD],
    )
    pieces = ([_without_tags(text)] for text in texts)
    tokenizer = untrained.train_new_from_iterator(pieces, vocabulary_size - len(REASONING_TAGS), show_progress=False)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in REASONING_TAGS])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _without_tags(text: str) -> str:
    for tag in REASONING_TAGS:
        text = text.replace(tag, " ")
    return text
