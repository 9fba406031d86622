"""Continues the pretraining of Qwen2.5-VL on captions; the tiny one starts here, from random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.training.cpt.config import CptConfig
from pathoflow.errors import InputError
from pathoflow.output import StageOutput
from pathoflow.schemas import read_rows
from pathoflow.training.checks import Fault, image_fault, text_fault
from pathoflow.training.curves import plot_curves
from pathoflow.training.job import Job
from pathoflow.training.launch import torchrun


def run(config: CptConfig, *, corpus: Path, reasoning_data: Path, out: StageOutput) -> None:
    """Writes `base/`, the model before training, and `model/`, the model after it.

    Args:
        config: The stage's configuration.
        corpus: Its training part is learned.
        reasoning_data: Its texts shape the tiny model's tokenizer and its look-ups.
        out: Where the models go.

    Raises:
        InputError: No pair can be used.
    """
    skipped = []
    for number, row in enumerate(read_rows(corpus / "train", ["pair_id", "image", "caption", "inline_refs"])):
        out.num_in += 1
        fault = image_fault(row["image"]) or _caption_fault(row["caption"], row["inline_refs"])
        if fault is not None:
            out.quarantine(row["pair_id"], *fault)
            skipped.append(number)
    out.num_out = out.num_in - len(skipped)
    if not out.num_out:
        raise InputError("corpus/train has no pair that can be used; quarantine.jsonl says why. Look at `corpus`.")
    job = Job.create(config, {"corpus": corpus, "reasoning_data": reasoning_data}, out, {"corpus/train": skipped})
    torchrun("components.training.cpt.worker", job, config, offline=not config.on_hub)
    job.collect(out)
    out.plot("curves", plot_curves(out.directory))


def _caption_fault(caption: str, inline_references: Sequence[str]) -> Fault | None:
    if not caption.strip():
        return "no_caption", "the caption is empty"
    return text_fault("\n".join((caption, *inline_references)))
