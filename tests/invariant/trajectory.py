"""The losses of a short training in a given layout: `torchrun … -m tests.invariant.trajectory '<values>' <file>`.

`python -m tests.invariant.trajectory --write` writes the references, from one process and one pack a step.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image

from components.training.sft.config import SftConfig
from pathoflow.data.image_io import encode_png
from pathoflow.modeling.encoding import Encoder, Sample
from pathoflow.modeling.flops import sample_cost
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import IMAGE, train_tokenizer
from pathoflow.training.engine import PackTrainer, pack_arguments, plan_steps
from pathoflow.training.lengths import SampleLengths
from pathoflow.training.steps import StepShares
from pathoflow.training.trainable_weights import prepare_model
from tests.support.conversations import TINY_SHAPE

REFERENCE = Path(__file__).with_name("losses.json")
ONE_PACK = {"batch_size_per_process": 8, "gradient_accumulation_steps": 1}
NUM_STEPS = 6
WORDS = ["a", "yellow", "lesion", "is", "a", "lipoma", "and", "a", "black", "one", "a", "melanoma"]


def make_samples() -> list[Sample]:
    """Texts of very different lengths and weights, with no image, one or two."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(8 * NUM_STEPS - 3):
        images = [
            encode_png(Image.fromarray(rng.integers(0, 255, (28, 28 * (1 + index), 3), dtype=np.uint8)))
            for index in range(number % 3)
        ]
        text = " ".join(rng.choice(WORDS, int(rng.lognormal(2, 0.8)) + 1))
        found.append(Sample(IMAGE * len(images) + text, images, "text", weight=1.0 + number % 2))
    return found


def losses(values: dict[str, Any]) -> list[float]:
    """The loss of each step."""
    samples = make_samples()
    processor = new_processor(train_tokenizer([" ".join(WORDS)] * 4, 340), max_pixels=28 * 28 * 4)
    encoder = Encoder(processor)
    model = build_tiny_model(TinyShape(**TINY_SHAPE), processor.tokenizer, seed=0)
    measured = encoder.measure(samples)
    measures = SampleLengths(
        np.array([length for length, _ in measured]),
        np.array([sample_cost(model.config, length, patches) for length, patches in measured]),
    )
    config = SftConfig(
        **{
            "freeze_vision_tower": False,
            "learning_rate": 3e-3,
            "max_length_tokens": 64,
            "bf16": False,
            "gradient_checkpointing": False,
            "log_every_steps": 1,
            "save_every_steps": 1000,
        }
        | values
    )
    plan = plan_steps(config, np.arange(len(samples)), measures, PartialState().num_processes)
    with tempfile.TemporaryDirectory() as folder:
        shares = StepShares(plan, samples.__getitem__, encoder)
        trainer = PackTrainer(
            shares, model=prepare_model(model, config), args=pack_arguments(config, Path(folder), plan)
        )
        trainer.args.save_strategy = "no"
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    torch.set_num_threads(1)
    state = PartialState(cpu=True)
    if sys.argv[1] == "--write":
        REFERENCE.write_text(json.dumps(losses(ONE_PACK), indent=1) + "\n")
    else:
        found = losses(json.loads(sys.argv[1]))
        if state.is_main_process:
            Path(sys.argv[2]).write_text(json.dumps(found))
    state.destroy_process_group()
