"""Fine-tunes the model on chain-of-thought conversations."""

from __future__ import annotations

from pathlib import Path

from components.training.sft.config import SftConfig
from components.training.sft.questions import conversation_name, dev_fault
from pathoflow.contract.output import StageOutput
from pathoflow.data.schemas import read_rows
from pathoflow.data.trainable.quarantine import quarantine_faulty
from pathoflow.data.trainable.rows import conversation_fault
from pathoflow.errors import InputError
from pathoflow.training.curves import plot_curves
from pathoflow.training.job import Job
from pathoflow.training.launch import launch_workers

COLUMNS = ["pair_id", "task", "messages", "images"]


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
    rows = read_rows(reasoning_data / "train", COLUMNS)
    skipped = {"reasoning_data/train": quarantine_faulty(rows, conversation_fault, conversation_name, out)}
    if not out.num_out:
        raise InputError("reasoning_data/train has no conversation that can be used; quarantine.jsonl says why.")
    skipped["reasoning_data/dev"] = _unasked(reasoning_data / "dev", config, out)
    job = Job.create(config, {"reasoning_data": reasoning_data, "cpt": cpt}, out, skipped)
    launch_workers("components.training.sft.worker", job, config)
    job.collect(out)
    out.plot("curves", plot_curves(out.directory))


def _unasked(directory: Path, config: SftConfig, out: StageOutput) -> list[int]:
    """Quarantines the dev questions that cannot be asked, up to the last that is; numbers of their rows."""
    skipped, num_asked = [], 0
    for number, row in enumerate(read_rows(directory, COLUMNS)):
        if num_asked == config.dev_questions:
            break
        if row["task"] != "mcq":
            continue
        out.num_in += 1
        if fault := dev_fault(row):
            out.quarantine(f"dev: {conversation_name(row)}", *fault)
            skipped.append(number)
        else:
            num_asked += 1
    out.num_out += num_asked
    return skipped
