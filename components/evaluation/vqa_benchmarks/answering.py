"""Puts batches of questions to a model. Runs in worker processes, so that heavy imports stay out of the stage's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from components.evaluation.vqa_benchmarks.config import Precision, Protocol
from components.evaluation.vqa_benchmarks.questions import images
from pathoflow.errors import InputError
from pathoflow.inference.protocol import Request
from pathoflow.inference.transformers_engine import RequestEncoder, TransformersEngine
from pathoflow.modeling.encoding import Encoder
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import load_processor
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
    """Returns the model's responses in the batch's order; by likelihood each is the frame with the likeliest letter.

    Raises:
        InputError: The model cannot be loaded.
    """
    engine = _engine(batch.model, batch.precision, batch.max_new_tokens)
    requests = [
        Request(question.messages(batch.style), images(question, blank=batch.blank), name=question.id)
        for question in batch.questions
    ]
    if batch.protocol == "generation":
        return [response.text for response in engine.generate(requests)]
    return _likeliest_letters(engine, requests, batch.questions)


@lru_cache(maxsize=1)
def _engine(source: str, precision: Precision, max_new_tokens: int) -> TransformersEngine:
    processor = load_processor(Path(source))
    model, _ = load(Qwen2_5_VLForConditionalGeneration, ModelReference(source), dtype=getattr(torch, precision))
    model.eval()
    return TransformersEngine(model, RequestEncoder(Encoder(processor)), max_new_tokens=max_new_tokens)


def _likeliest_letters(
    engine: TransformersEngine, requests: Sequence[Request], questions: Sequence[Question]
) -> list[str]:
    """Returns for each question the frame with the option letter that is likeliest after prompt and frame."""
    most = max(len(question.options) for question in questions)
    frame, letters = _frame_and_letters(engine.tokenizer, LETTERS[:most])
    inputs = engine.inputs(requests)
    num = len(inputs["input_ids"])
    additions = {
        "input_ids": torch.tensor(frame).expand(num, -1),
        "attention_mask": torch.ones(num, len(frame), dtype=torch.long),
        "mm_token_type_ids": torch.zeros(num, len(frame), dtype=torch.long),
    }
    for name, addition in additions.items():
        inputs[name] = torch.cat([inputs[name], addition.to(inputs[name])], dim=1)
    logits: Tensor = engine.forward(inputs, logits_to_keep=1).logits[: len(questions), -1, letters]
    best = [row[: len(question.options)].argmax().item() for row, question in zip(logits, questions, strict=True)]
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
