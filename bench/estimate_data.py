"""Generates data and base models for `bench.estimate`, large enough that tensors outweigh the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pathoflow.data.image_io import encode_jpeg, image_columns
from pathoflow.data.schemas import CORPUS, MCQ, REASONING, ShardWriter
from pathoflow.modeling.pretrained import save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import mcq_text, prompt_messages, response_text, text_message

SIDE = 224
WORDS_EACH = 60
NAMES = ["lipoma", "melanoma", "naevus", "haemangioma"]


def words(number: int) -> list[str]:
    """Returns distinct made-up words, so that a vocabulary of some thousand tokens can be learned."""
    rng = np.random.default_rng(7)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return ["".join(rng.choice(letters, rng.integers(4, 9))) for _ in range(number)]


def build_base(folder: Path, shape: TinyShape) -> None:
    """Builds a random Qwen2.5-VL with its processor, as the output of a stage: in `model` below the folder."""
    rng = np.random.default_rng(0)
    known = words(4000)
    texts = [" ".join(rng.choice(known, 40)) for _ in range(600)]
    tokenizer = train_tokenizer(texts, shape.vocabulary_size)
    model = build_tiny_model(shape, tokenizer, 0)
    save_model(model, new_processor(tokenizer, max_pixels=SIDE * SIDE), folder / "model")


def write_pairs(folder: Path, number: int, split: str = "train") -> None:
    """Writes pairs whose images have `SIDE` pixels a side, and captions of `WORDS_EACH` words."""
    with ShardWriter(folder / split, CORPUS, prefix=split) as writer:
        for index, (data, image, text) in enumerate(_drawn(number)):
            row: dict[str, Any] = {
                "caption": text,
                "inline_refs": [],
                "source": "bench",
                "source_id": str(index),
                "region": None,
            }
            row |= {"pair_id": f"bench/{index}", "language": "en", "split": split}
            writer.write(row | image_columns(data, image, f"{index}.jpg"))


def write_conversations(folder: Path, number: int) -> None:
    """Writes questions about images with reasoned answers."""
    with ShardWriter(folder / "train", REASONING) as writer:
        for index, (data, _, text) in enumerate(_drawn(number)):
            messages = [*prompt_messages(mcq_text(NAMES, "short"), "short", num_images=1)]
            messages.append(text_message("assistant", response_text(text, "A")))
            row: dict[str, Any] = {"messages": messages, "images": [{"bytes": data, "path": None}], "task": "mcq"}
            row |= {"subfield": "skin", "difficulty": None, "prompt_id": "bench", "pair_id": f"bench/{index}"}
            writer.write(row | {"teacher": "template", "qc": "passed"})
    with ShardWriter(folder / "dev", REASONING):
        pass


def write_questions(folder: Path, number: int) -> None:
    """Writes multiple-choice questions to train on and to choose by."""
    for part, count in (("train", number), ("dev", 2)):
        with ShardWriter(folder / part, MCQ) as writer:
            for index, (data, _, _) in enumerate(_drawn(count)):
                row: dict[str, Any] = {
                    "mcq_id": f"q{index}",
                    "prompt": mcq_text(NAMES, "short"),
                    "options": NAMES,
                    "answer": "A",
                }
                row |= {"images": [{"bytes": data, "path": None}], "subfield": "skin", "tissue_system": "skin"}
                writer.write(row | {"diagnosis": NAMES[0], "pair_id": f"bench/{index}"})


def _drawn(number: int) -> list[tuple[bytes, Image.Image, str]]:
    rng = np.random.default_rng(1)
    known = words(4000)
    drawn = []
    for _ in range(number):
        small = Image.fromarray(rng.integers(0, 255, (28, 28, 3), dtype=np.uint8))
        image = small.resize((SIDE, SIDE))
        drawn.append((encode_jpeg(image, 90), image, " ".join(rng.choice(known, WORDS_EACH))))
    return drawn
