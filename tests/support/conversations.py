"""A corpus and reasoning data of a few dozen colour patches, and a model small enough to learn them in seconds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pathoflow.data.image_io import encode_jpeg
from pathoflow.data.schemas import REASONING, ShardWriter
from pathoflow.qa.prompts import mcq_text, prompt_messages, response_text, text_message
from tests.support.pairs import pair, write_corpus

COLOURS = {
    "lipoma": ("yellow", (230, 200, 40)),
    "melanoma": ("black", (30, 25, 25)),
    "haemangioma": ("red", (200, 30, 40)),
    "naevus": ("brown", (120, 70, 40)),
}
TINY_SHAPE = {
    "vocabulary_size": 340,
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 32,
    "vision_depth": 1,
    "vision_hidden_size": 16,
    "vision_num_heads": 2,
    "vision_intermediate_size": 32,
}


def patch(diagnosis: str) -> Image.Image:
    """A square in the colour of a diagnosis."""
    return Image.new("RGB", (28, 28), COLOURS[diagnosis][1])


def write_colour_corpus(directory: Path, num_train: int = 24, faulty: Sequence[dict[str, Any]] = ()) -> Path:
    """A corpus of patches whose captions name the colour and the diagnosis, after the faulty pairs given."""
    names = list(COLOURS)
    chosen = [names[number % len(names)] for number in range(num_train)]
    rows = [
        pair(f"patch_{number:03}", f"A {COLOURS[name][0]} lesion: {name}.", patch(name), inline_refs=["See the patch."])
        for number, name in enumerate(chosen)
    ]
    return write_corpus(directory, train=[*faulty, *rows])


def conversation(number: int, rng: random.Random) -> dict[str, Any]:
    """One multiple-choice conversation about a patch."""
    names = list(COLOURS)
    diagnosis = names[number % len(names)]
    options = rng.sample(names, len(names))
    letter = "ABCD"[options.index(diagnosis)]
    messages = prompt_messages(mcq_text(options, "short"), "short")
    messages.append(text_message("assistant", response_text(f"{COLOURS[diagnosis][0]}: {diagnosis}", letter)))
    return {
        "messages": messages,
        "images": [{"bytes": encode_jpeg(patch(diagnosis)), "path": f"{number}.jpg"}],
        "task": "mcq",
        "subfield": "gross examination",
        "difficulty": None,
        "prompt_id": "template/mcq/short/en",
        "pair_id": f"pair_{number}",
        "teacher": "template",
        "qc": "passed",
    }


def write_reasoning(directory: Path, num_train: int = 24, num_dev: int = 8) -> Path:
    """Reasoning data about patches."""
    rng = random.Random(0)
    for split, number in (("train", num_train), ("dev", num_dev)):
        with ShardWriter(directory / split, REASONING, prefix=split) as writer:
            for index in range(number):
                writer.write(conversation(index, rng))
    return directory
