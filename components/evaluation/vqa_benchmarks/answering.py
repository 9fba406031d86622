"""Puts batches of questions to a model. Runs in worker processes, so that heavy imports stay out of the stage's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.utils import logging

from components.evaluation.vqa_benchmarks.config import Precision, Protocol
from components.evaluation.vqa_benchmarks.questions import pixels
from pathoflow.errors import InputError
from pathoflow.modeling.generation_config import greedy_decoding
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import load_processor
from pathoflow.modeling.processor import Qwen2_5_VLProcessor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.qa.prompts import LETTERS, PromptStyle, response_text
from pathoflow.qa.question import Question
from pathoflow.system.processes import die_with_parent

FRAME = response_text("", "").removesuffix("</answer>")
"""Stands before the letter whose likelihood is taken: a response without reasoning, up to its answer."""


@dataclass(frozen=True)
class Batch:
    """Questions that one model answers at once, in one way."""

    model: str
    precision: Precision
    protocol: Protocol
    blank: bool
    style: PromptStyle
    max_new_tokens: int
    questions: tuple[Question, ...]


def start_worker(numbers: SimpleQueue[int], num_threads: int | None) -> None:
    """Prepares a process of a pool.

    Args:
        numbers: Gives each process another number, which chooses its GPU if there are any.
        num_threads: CPU threads of torch; None leaves torch's choice.
    """
    die_with_parent()
    number = numbers.get()
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    prepare(num_threads)


def prepare(num_threads: int | None) -> None:
    """Sets the CPU threads of torch and quietens transformers."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    logging.disable_progress_bar()


def answer(batch: Batch) -> list[str]:
    """The model's responses to a batch, in its order; by likelihood each is the frame with the likeliest letter.

    Raises:
        InputError: The model cannot be loaded.
    """
    model, processor = _loaded(batch.model, batch.precision)
    respond = _generate if batch.protocol == "generation" else _likeliest_letters
    with torch.inference_mode():
        return respond(model, processor, batch)


@lru_cache(maxsize=1)
def _loaded(source: str, precision: Precision) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    processor = load_processor(Path(source))
    model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(source), dtype=getattr(torch, precision))
    # Generation continues from the last token, which must therefore stand at the end of every row.
    processor.tokenizer.padding_side = "left"
    return model, processor


def _encoded(processor: Qwen2_5_VLProcessor, batch: Batch) -> BatchFeature:
    """Prompts, padded on the left to a common length, and all images behind each other."""
    texts = [
        processor.apply_chat_template(question.messages(batch.style), add_generation_prompt=True, tokenize=False)
        for question in batch.questions
    ]
    images = [pixels(question, blank=batch.blank) for question in batch.questions]
    return processor(text=texts, images=images, padding=True, return_tensors="pt")


def _generate(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, batch: Batch) -> list[str]:
    """Greedy responses."""
    inputs = _encoded(processor, batch).to(model.device)
    how = greedy_decoding(processor.tokenizer, batch.max_new_tokens)
    tokens = model.generate(**inputs, generation_config=how)[:, inputs["input_ids"].shape[1] :]
    texts: list[str] = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts


def _likeliest_letters(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, batch: Batch
) -> list[str]:
    """For each question the frame with the option letter that the model finds likeliest after prompt and frame."""
    most = max(len(question.options) for question in batch.questions)
    frame, letters = _frame_and_letters(processor.tokenizer, LETTERS[:most])
    inputs = _encoded(processor, batch)
    num = len(batch.questions)
    additions = {
        "input_ids": torch.tensor(frame).expand(num, -1),
        "attention_mask": torch.ones(num, len(frame), dtype=torch.long),
        "mm_token_type_ids": torch.zeros(num, len(frame), dtype=torch.long),
    }
    for name, addition in additions.items():
        inputs[name] = torch.cat([inputs[name], addition.to(inputs[name].dtype)], dim=1)
    logits: Tensor = model(**inputs.to(model.device), logits_to_keep=1).logits[:, -1, letters]
    best = [row[: len(question.options)].argmax().item() for row, question in zip(logits, batch.questions, strict=True)]
    return [response_text("", LETTERS[place]) for place in best]


def _frame_and_letters(tokenizer: Any, letters: str) -> tuple[list[int], list[int]]:
    """The tokens before the letter, and each letter's token.

    A vocabulary may join the frame's last character and the letter. As long as the responses differ in their last
    token alone, comparing that token's likelihood compares the whole responses'.

    Raises:
        InputError: The vocabulary cuts the letters up in different ways.
    """
    encoded = [tokenizer.encode(FRAME + letter, add_special_tokens=False) for letter in letters]
    frames = {tuple(tokens[:-1]) for tokens in encoded}
    if len(frames) != 1:
        raise InputError("The tokenizer splits option letters unevenly: score this model by generation instead.")
    return list(frames.pop()), [tokens[-1] for tokens in encoded]
