"""Continues the pretraining of Qwen2.5-VL on captions."""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from pathlib import Path

from components.training.cpt.config import CptConfig
from pathoflow.contract.output import StageOutput
from pathoflow.data.schemas import read_rows
from pathoflow.data.trainable.quarantine import quarantine_faulty
from pathoflow.data.trainable.rows import pair_fault
from pathoflow.errors import InputError
from pathoflow.training.curves import plot_curves
from pathoflow.training.job import Job
from pathoflow.training.launch import launch_workers


def run(config: CptConfig, *, corpus: Path, base_model: Path | None = None, out: StageOutput) -> None:
    """Writes `base/`, the model before training, and `model/`, the model after it.

    Args:
        config: The stage's configuration.
        corpus: Its training part is learned.
        base_model: Where training starts, with its look-ups, unless the configuration names a model.
        out: Where the models go.

    Raises:
        ConfigError: There is no model to start from, or there are two.
        InputError: No pair can be used.
    """
    inputs = {"corpus": corpus} | ({"base_model": base_model} if base_model else {})
    config.check_inputs(inputs)
    rows = read_rows(corpus / "train", ["pair_id", "image", "width", "height", "caption", "inline_refs"])
    fault_of = partial(pair_fault, with_references=config.use_inline_references)
    skipped = quarantine_faulty(rows, fault_of, itemgetter("pair_id"), out)
    if not out.num_out:
        raise InputError("corpus/train has no pair that can be used; quarantine.jsonl says why. Look at `corpus`.")
    job = Job.create(config, inputs, out, {"corpus/train": skipped})
    launch_workers("components.training.cpt.worker", job, config, offline=not config.on_hub)
    job.collect(out)
    out.plot("curves", plot_curves(out.directory))
