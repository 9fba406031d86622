"""Fine-tunes the model on chain-of-thought conversations."""

from __future__ import annotations

from pathlib import Path

from components.training.sft.config import SftConfig
from pathoflow.errors import InputError
from pathoflow.output import StageOutput
from pathoflow.schemas import read_rows
from pathoflow.training.checks import conversation_fault
from pathoflow.training.curves import plot_curves
from pathoflow.training.job import Job
from pathoflow.training.launch import torchrun


def run(config: SftConfig, *, reasoning_data: Path, cpt: Path, out: StageOutput) -> None:
    """Writes `model/`, in which the assistant's turns of the conversations are learned.

    Args:
        config: The stage's configuration.
        reasoning_data: Its training part is learned; its dev part decides when to stop.
        cpt: The model to start from.
        out: Where the model goes.

    Raises:
        InputError: No conversation can be used.
    """
    skipped = []
    for number, row in enumerate(read_rows(reasoning_data / "train", ["pair_id", "task", "messages", "images"])):
        out.num_in += 1
        if fault := conversation_fault(row["messages"], row["images"]):
            out.quarantine(f"{row['pair_id']} ({row['task']})", *fault)
            skipped.append(number)
    out.num_out = out.num_in - len(skipped)
    if not out.num_out:
        raise InputError("reasoning_data/train has no conversation that can be used; quarantine.jsonl says why.")
    job = Job.create(config, {"reasoning_data": reasoning_data, "cpt": cpt}, out, {"reasoning_data/train": skipped})
    torchrun("components.training.sft.worker", job, config)
    job.collect(out)
    out.plot("curves", plot_curves(out.directory))
