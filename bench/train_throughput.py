"""Measures the training engine's tokens a second against plain TRL: same model, samples, precision, one CPU core.

TRL's SFTTrainer refuses to pack or to leave out padding where there are images, so it gets what is left to its user:
the same number of samples a step, padded to the longest of them, without metrics or checkpoints that it can do without.
The two take turns; each turn learns every sample once, from preparing its image to the optimiser's step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

# Tiny models are fastest on one thread; both sides get one.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import datasets
import numpy as np
import torch
import trl
from PIL import Image
from transformers import PrinterCallback

from bench.report import Figure, conclude
from components.training.sft.config import SftConfig
from pathoflow.data.image_io import encode_png
from pathoflow.modeling import encoding
from pathoflow.modeling.encoding import Encoder, Sample
from pathoflow.modeling.flops import sample_cost
from pathoflow.modeling.processor import Qwen2_5_VLProcessor, new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import prompt_messages, text_message
from pathoflow.training.engine import PackTrainer, pack_arguments, plan_steps
from pathoflow.training.lengths import SampleLengths
from pathoflow.training.steps import StepShares
from pathoflow.training.trainable_weights import prepare_model

WORDS = ["lesion", "shows", "atypical", "glands", "with", "enlarged", "nuclei", "and", "mitoses", "in", "stroma"]
MEDIAN_WORDS, SIGMA, MAX_WORDS = 60, 1.0, 600
BATCH = 16
SHAPE = TinyShape(num_layers=4)
MAX_PIXELS = 56 * 56


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples and turns")
    quick = parser.parse_args().quick
    num_samples, turns = (64, 2) if quick else (192, 5)
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    rows = make_rows(num_samples)
    processor = new_processor(
        train_tokenizer([row["text"] for row in rows], SHAPE.vocabulary_size), max_pixels=MAX_PIXELS
    )
    encoder = Encoder(processor)
    all_samples = [_sample(row, processor) for row in rows]
    lengths = [num_tokens for num_tokens, _ in encoder.measure(all_samples)]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(turns):
            theirs.append(sum(lengths) / _trl(rows, processor, Path(folder)))
            ours.append(sum(lengths) / _engine(all_samples, lengths, processor, Path(folder)))
    batches = [lengths[start : start + BATCH] for start in range(0, num_samples, BATCH)]
    padded = sum(max(batch) * len(batch) for batch in batches) / sum(lengths)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{num_samples} samples of {min(lengths)} to {max(lengths)} tokens, mean {statistics.mean(lengths):.0f}")
    print(f"engine {statistics.median(ours):.0f} tokens/s, TRL {statistics.median(theirs):.0f} tokens/s")
    print(
        f"TRL computes {padded:.2f} tokens for each that is real; the other {ratio / padded:.2f} x is work per token:"
    )
    print("logits of learned positions alone, causal attention without a mask, windows of images in one call,")
    print("positions found by data workers, no gathering of token statistics")
    peer = f"TRL {trl.__version__} SFTTrainer, batch of {BATCH}, float32"
    conclude(
        "Training throughput, CPU",
        [Figure("training tokens a second, log-normal lengths", ratio, "x", peer, 2.0, higher_is_better=True)],
    )


def make_rows(number: int) -> list[dict[str, Any]]:
    """Builds questions about small images with answers of log-normal length."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_WORDS), SIGMA, number), 4, MAX_WORDS).astype(int)
    return [
        {
            "text": " ".join(rng.choice(WORDS, length)),
            "image": encode_png(Image.fromarray(rng.integers(0, 255, (56, 56, 3), dtype=np.uint8))),
        }
        for length in lengths
    ]


def _sample(row: dict[str, Any], processor: Qwen2_5_VLProcessor) -> Sample:
    messages = [*prompt_messages("Describe.", "short"), text_message("assistant", row["text"])]
    return encoding.conversation(messages, [row["image"]], processor)


def _engine(all_samples: list[Sample], lengths: list[int], processor: Qwen2_5_VLProcessor, folder: Path) -> float:
    """Returns the seconds that the engine takes for an epoch."""
    config = SftConfig(
        freeze_vision_tower=False,
        batch_size_per_process=BATCH,
        pack_tokens=4096,
        bf16=False,
        gradient_checkpointing=False,
        log_every_steps=1000,
        save_every_steps=1000,
    )
    model = build_tiny_model(SHAPE, processor.tokenizer, seed=0)
    costs = [sample_cost(model.config, length, [16]) for length in lengths]
    plan = plan_steps(config, np.arange(len(lengths)), SampleLengths(np.array(lengths), np.array(costs)), 1)
    shares = StepShares(plan, all_samples.__getitem__, Encoder(processor))
    arguments = pack_arguments(config, folder / "engine", plan)
    return _timed(PackTrainer(shares, model=prepare_model(model, config), args=arguments))


def _trl(rows: list[dict[str, Any]], processor: Qwen2_5_VLProcessor, folder: Path) -> float:
    """Returns the seconds that TRL takes for an epoch."""
    model = build_tiny_model(SHAPE, processor.tokenizer, seed=0)
    batch = {"per_device_train_batch_size": BATCH, "use_cpu": True, "bf16": False, "activation_checkpointing": False}
    return _timed(trl_trainer(rows, processor, model, folder / "trl", **batch))


def trl_trainer(
    rows: list[dict[str, Any]], processor: Qwen2_5_VLProcessor, model: Any, directory: Path, **arguments: Any
) -> trl.SFTTrainer:
    """Builds TRL's trainer on rows of an encoded image and a text, learning the texts alone."""
    dataset = datasets.Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": "Describe."}],
                "completion": [{"role": "assistant", "content": row["text"]}],
                "images": [{"bytes": row["image"], "path": None}],
            }
            for row in rows
        ]
    ).cast_column("images", datasets.List(datasets.Image()))
    shared = trl.SFTConfig(
        output_dir=str(directory),
        num_train_epochs=1,
        max_length=None,
        optim="adamw_torch_fused",
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=1000,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **arguments,
    )
    return trl.SFTTrainer(model=model, args=shared, train_dataset=dataset, processing_class=processor)


def _timed(trainer: Any) -> float:
    # Neither side writes its model.
    trainer.args.save_strategy = "no"
    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
