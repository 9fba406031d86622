"""Trains PathoCLIP on the corpus by contrastive learning."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from components.training.pathoclip.config import PathoclipConfig
from components.training.pathoclip.contrastive import CHECKPOINT, train
from components.training.pathoclip.examples import Examples, load_captions, load_examples
from components.training.pathoclip.initial_check import check_initial_rank, initial_metrics
from components.training.pathoclip.model import load
from components.training.pathoclip.retrieval import chance_at_1, embed, recalls
from pathoflow.contract.output import StageOutput
from pathoflow.data.image_io import encode_png
from pathoflow.data.plots import image_grid
from pathoflow.data.schemas import count_rows
from pathoflow.errors import InputError
from pathoflow.training.prometheus import Training, model_label, serve_metrics

NUM_QUERIES = 6
NUM_RETRIEVED = 5


def run(config: PathoclipConfig, *, corpus: Path, out: StageOutput) -> None:
    """Writes `model/`, a CLIP with its processor, trained on corpus/train and scored on corpus/heldout.

    Args:
        config: The stage's configuration.
        corpus: The corpus.
        out: Where the model goes.

    Raises:
        InputError: There are fewer than two pairs to train on, or the model to start from cannot be loaded.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    torch.use_deterministic_algorithms(True)
    captions = load_captions(corpus / "train")
    _check_number(len(captions))
    model, processor, report = load(config, captions)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    num_pairs = count_rows(corpus / "train")
    examples = load_examples(
        corpus / "train", processor, out, lambda num: out.progress(num, num_pairs, "images decoded")
    )
    _check_number(len(examples))
    initial = initial_metrics(model, processor, examples)
    check_initial_rank(initial["initial_rank"], config)
    with serve_metrics(_described(model, config, len(examples), out.scratch)):
        losses = train(model, processor, examples, config, out.scratch, out)
    model.save_pretrained(out.path / "model")
    processor.save_pretrained(out.path / "model")
    out.metric("loss", sum(losses[-20:]) / len(losses[-20:]))
    for name, value in initial.items():
        out.metric(name, value)
    for name, words in (report.notes() if report else {}).items():
        out.note(name, words)
    out.metric("num_parameters", sum(parameter.numel() for parameter in model.parameters()))
    out.plot("loss", _loss_curve(losses))
    heldout = load_examples(corpus / "heldout", processor, out)
    if len(heldout):
        _evaluate(model, processor, heldout, out)


def _check_number(num_pairs: int) -> None:
    if num_pairs < 2:
        raise InputError(
            f"corpus/train holds {num_pairs} pairs that can be used; contrastive training needs at least two. "
            "quarantine.jsonl says what was wrong with others."
        )


def _described(model: CLIPModel, config: PathoclipConfig, num_examples: int, scratch: Path) -> Training:
    return Training(
        stage=config.stage,
        model=model_label(model),
        scratch=scratch,
        completed_by=CHECKPOINT,
        checkpoint_every_steps=config.checkpoint_every_steps,
        epochs=config.num_steps * config.batch_size / num_examples,
    )


def _evaluate(model: CLIPModel, processor: CLIPProcessor, heldout: Examples, out: StageOutput) -> None:
    images, texts = embed(model, processor, heldout)
    for name, value in recalls(images, texts, heldout.caption_ids).items():
        out.metric(name, value)
    chance = chance_at_1(heldout.caption_ids.tolist())
    out.metric("recall_at_1_chance", chance)
    out.metric("recall_at_1_over_chance", out.metrics["recall_at_1"] / chance)
    out.metric("num_heldout", len(heldout))
    out.plot("retrieval", _retrieval_sheet(heldout, texts @ images.T))


def _loss_curve(losses: list[float]) -> Figure:
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), losses, linewidth=0.8)
    axes.set_xlabel("step")
    axes.set_ylabel("contrastive loss")
    axes.set_title("Training loss")
    return figure


def _retrieval_sheet(heldout: Examples, similarity: Tensor) -> Figure:
    """Draws some captions, each with its own image and the images found for it, in a row."""
    images, words = [], []
    for query in random.Random(0).sample(range(len(heldout)), k=min(NUM_QUERIES, len(heldout))):
        best = similarity[query].argsort(descending=True, stable=True)[:NUM_RETRIEVED].tolist()
        images += [_png(heldout.pixels[place]) for place in (query, *best)]
        words.append(f"Query: {heldout.captions[query]}")
        for rank, place in enumerate(best, 1):
            hit = " (right)" if heldout.caption_ids[place] == heldout.caption_ids[query] else ""
            words.append(f"{rank}.{hit} {heldout.captions[place]}")
    return image_grid(images, words, columns=NUM_RETRIEVED + 1)


def _png(pixels: Tensor) -> bytes:
    """Encodes pixels `[3, S, S]` as PNG."""
    return encode_png(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()))
