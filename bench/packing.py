"""Compares loss and gradients of packs with plain transformers: the same samples, one at a time, in the stock model.

The engine's side is what a training step computes: samples of unlike lengths with images of unlike sizes, one after
another in packs, attention within each, logits of learned positions alone. The other side is transformers' own model
with its own loss for each sample, summed and divided by the number of learned tokens. Float32 on both.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as stock

from bench.report import Figure, conclude
from pathoflow.data.image_io import encode_png
from pathoflow.modeling import encoding
from pathoflow.modeling.attention import use_segment_attention
from pathoflow.modeling.encoding import Encoded, Encoder, filler
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import prompt_messages, text_message
from pathoflow.training.steps import packed

WORDS = ["lesion", "shows", "atypical", "glands", "with", "enlarged", "nuclei", "and", "mitoses", "in", "stroma"]
SHAPE = TinyShape(num_layers=4, vision_depth=4)
SAMPLES_PER_PACK = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    num_samples = 16 if parser.parse_args().quick else 64
    torch.set_num_threads(1)
    encoder, encoded = encoded_samples(num_samples)
    tokenizer = encoder.processor.tokenizer
    ours = build_tiny_model(SHAPE, tokenizer, seed=0)
    theirs = stock.Qwen2_5_VLForConditionalGeneration(ours.config)
    theirs.load_state_dict(ours.state_dict())
    use_segment_attention(ours)
    loss = loss_of_packs(ours, encoder, encoded)
    expected = loss_one_by_one(theirs, encoder, encoded)
    lengths = [len(sample["input_ids"]) for sample in encoded]
    print(f"{num_samples} samples of {min(lengths)} to {max(lengths)} tokens; losses {loss:.7f} and {expected:.7f}")
    peer = f"transformers {transformers.__version__}, one sample at a time"
    conclude(
        "Packs against plain transformers",
        [
            Figure("loss, relative difference", abs(loss - expected) / expected, "", peer, 1e-5),
            Figure("gradients, largest relative difference of a tensor", worst_gradient(ours, theirs), "", peer, 1e-5),
        ],
    )


def encoded_samples(number: int) -> tuple[Encoder, list[Encoded]]:
    """Encodes conversations about images of unlike sizes with answers of unlike lengths."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, int(length))) for length in rng.integers(3, 80, number)]
    processor = new_processor(train_tokenizer(texts, SHAPE.vocabulary_size), max_pixels=140 * 140)
    encoder = Encoder(processor)
    encoded = []
    for text in texts:
        height, width = rng.integers(1, 6, 2) * 28
        image = encode_png(Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)))
        messages = [*prompt_messages("Describe.", "short"), text_message("assistant", text)]
        encoded.append(encoder.encode(encoding.conversation(messages, [image], processor)))
    return encoder, encoded


def loss_of_packs(model: Any, encoder: Encoder, encoded: list[Encoded]) -> float:
    """Returns the mean loss of all learned tokens by packs; leaves its gradients in `model`."""
    packs = [
        packed(encoded[start : start + SAMPLES_PER_PACK], filler(encoder))
        for start in range(0, len(encoded), SAMPLES_PER_PACK)
    ]
    weight = sum(float(pack["target_weights"].sum()) for pack in packs)
    total = 0.0
    for pack in packs:
        loss = model(**pack) / weight
        loss.backward()
        total += loss.item()
    return total


def loss_one_by_one(model: Any, encoder: Encoder, encoded: list[Encoded]) -> float:
    """Returns the same by the stock model's own loss; leaves its gradients in `model`."""
    batches = [encoder.batch([sample]) for sample in encoded]
    learned = [int((batch["labels"][:, 1:] != encoding.IGNORED).sum()) for batch in batches]
    total = 0.0
    for batch, number in zip(batches, learned, strict=True):
        batch.pop("weights")
        loss = model(**batch).loss * number / sum(learned)
        loss.backward()
        total += loss.item()
    return total


def worst_gradient(model: Any, reference: Any) -> float:
    """Returns the largest difference of two tensors' gradients, by norm, relative to the reference's."""
    theirs = dict(reference.named_parameters())
    return max(
        float((weight.grad - theirs[name].grad).norm() / theirs[name].grad.norm().clamp(min=1e-12))
        for name, weight in model.named_parameters()
    )


if __name__ == "__main__":
    main()
