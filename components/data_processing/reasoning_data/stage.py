"""Writes chain-of-thought samples from captions and in-line references."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from components.data_processing.reasoning_data import teacher as template
from components.data_processing.reasoning_data.config import ReasoningDataConfig, Task
from components.data_processing.reasoning_data.quality import fault
from components.data_processing.reasoning_data.teacher import Teacher, case_of
from pathoflow.contract.output import StageOutput
from pathoflow.data.lexicon import Lexicon
from pathoflow.data.plots import image_grid, stacked_bars
from pathoflow.data.schemas import REASONING, ShardWriter, count_rows, read_rows
from pathoflow.errors import InputError

NO_SUBFIELD = "unknown"
NUM_SHOWN_PER_TASK = 3


def run(config: ReasoningDataConfig, *, corpus: Path, out: StageOutput) -> None:
    """Writes `train/` and `dev/` with one sample for each pair used.

    Which pairs are used, for what task and with which options depends on the seed and the pair's id alone.

    Args:
        config: The stage's configuration.
        corpus: The corpus; its held-out part is not read.
        out: Where the samples go.

    Raises:
        InputError: No sample could be written.
    """
    teacher = Teacher(config, Lexicon.load(config.lexicon))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    shown: list[dict[str, Any]] = []
    shares = {"train": config.train_share, "dev": config.dev_share}
    total, num_read = sum(count_rows(corpus / split) for split in shares), 0
    for split, share in shares.items():
        with ShardWriter(out.path / split, REASONING, prefix=split, shard_bytes=config.shard_mib * 2**20) as writer:
            for row in read_rows(corpus / split):
                num_read += 1
                out.progress(num_read, total, "pairs")
                rng = random.Random(f"{config.seed}/{row['pair_id']}")
                if rng.random() >= share or row["language"] not in config.languages:
                    continue
                out.num_in += 1
                if sample := _sample(row, config, teacher, rng, out):
                    writer.write(sample)
                    counts[sample["subfield"]][sample["task"]] += 1
                    if sum(other["task"] == sample["task"] for other in shown) < NUM_SHOWN_PER_TASK:
                        shown.append(sample)
        out.metric(f"num_{split}", writer.num_rows)
        out.num_out += writer.num_rows
    if not out.metrics["num_train"]:
        raise InputError("No sample could be written; quarantine.jsonl and the captions of the corpus say why.")
    for task in config.task_weights:
        out.metric(f"num_{task}", sum(tasks[task] for tasks in counts.values()))
    out.note("teacher", template.NAME)
    out.plot("tasks", stacked_bars(counts, unit="samples", title="Samples by subfield and task"))
    images = [sample["images"][0]["bytes"] for sample in shown]
    words = [_transcript(sample["messages"]) for sample in shown]
    out.plot("examples", image_grid(images, words, columns=3, width=56, lines=12))


def _sample(
    row: dict[str, Any], config: ReasoningDataConfig, teacher: Teacher, rng: random.Random, out: StageOutput
) -> dict[str, Any] | None:
    """Writes the sample of one pair; None after setting the pair aside.

    A pair that says too little for the task drawn gets a description instead.
    """
    case = case_of(row["caption"], row["inline_refs"], row["language"], teacher.lexicon)
    drawn: Task = rng.choices(list(config.task_weights), weights=list(config.task_weights.values()))[0]
    task: Task = drawn if teacher.can_write(case, drawn) else "detailed_description"
    messages = teacher.write(case, task, rng)
    found = fault(
        messages,
        task=task,
        language=case.language,
        repeated_words=config.repeated_words,
        max_repeats=config.max_repeats,
    )
    if found is not None:
        out.quarantine(row["pair_id"], *found)
        return None
    return {
        "messages": messages,
        "images": [row["image"]],
        "task": task,
        "subfield": case.diagnosis.subfield if case.diagnosis else NO_SUBFIELD,
        "difficulty": None,
        "prompt_id": f"{template.NAME}/{task}/{config.prompt_style}/{case.language}",
        "pair_id": row["pair_id"],
        "teacher": template.NAME,
        "qc": "passed",
    }


def _transcript(messages: list[Any]) -> str:
    """Returns a conversation as lines of text."""
    return "\n".join(
        f"{message['role']}: {part['text']}"
        for message in messages
        for part in message["content"]
        if part["text"] is not None
    )
