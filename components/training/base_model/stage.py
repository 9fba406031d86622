"""Builds the model that the demo starts from, where no pretrained one is at hand."""

from __future__ import annotations

import json
from pathlib import Path

from components.training.base_model.config import BaseModelConfig
from components.training.base_model.lookups import find_lookups, reordered
from pathoflow.contract.output import StageOutput
from pathoflow.data.schemas import read_rows
from pathoflow.data.trainable.rows import caption_fault, turns_fault
from pathoflow.errors import InputError
from pathoflow.modeling.pretrained import save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tokenizer import train_tokenizer

# Each stage that loads the model says how large its images may be.
_MAX_PIXELS = 262_144


def run(config: BaseModelConfig, *, corpus: Path, reasoning_data: Path, out: StageOutput) -> None:
    """Writes `model/`, with random weights and a tokenizer learned from the texts, and `lookups.jsonl`.

    Texts that cannot be learned are passed over here; `cpt` and `sft` set them aside and count them.

    Args:
        config: The stage's configuration.
        corpus: The captions of its training part shape the tokenizer.
        reasoning_data: Its texts do, too, and its questions become look-ups.
        out: Where both go.

    Raises:
        InputError: There is no text, or no question that a look-up can be made of.
    """
    captions = [row["caption"] for row in read_rows(corpus / "train", ["caption"]) if not caption_fault(row["caption"])]
    rows = read_rows(reasoning_data / "train", ["messages"])
    conversations = [row["messages"] for row in rows if row["messages"] and not turns_fault(row["messages"])]
    turns = [
        part["text"]
        for messages in conversations
        for message in messages
        for part in message["content"]
        if part["text"]
    ]
    texts = captions + turns
    if not texts:
        raise InputError("corpus/train and reasoning_data/train hold no text to learn a vocabulary from.")
    tokenizer = train_tokenizer(texts, config.shape.vocabulary_size)
    model = build_tiny_model(config.shape, tokenizer, config.seed)
    save_model(model, new_processor(tokenizer, max_pixels=_MAX_PIXELS), out.path / "model")
    found = find_lookups(conversations) if config.num_lookups else []
    if config.num_lookups and not found:
        raise InputError(
            "reasoning_data/train has no question whose thinking names an option without its letter. "
            "Set base_model.num_lookups to 0."
        )
    with (out.path / "lookups.jsonl").open("w", encoding="utf-8") as file:
        for lookup in reordered(found, config.num_lookups, config.seed):
            exercise = {"messages": lookup.messages, "given": lookup.given, "letter": lookup.letter}
            file.write(json.dumps(exercise, ensure_ascii=False) + "\n")
    out.num_in, out.num_out = len(texts), len(texts)
    out.metric("num_parameters", model.num_parameters())
    out.metric("num_lookups", config.num_lookups)
