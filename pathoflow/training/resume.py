"""Finds the checkpoint from which a training resumes, and checks that its processes can.

A step of cpt and sft learns from the same samples however many processes share them, and without ZeRO and dropout
nothing in a checkpoint belongs to one process: others go on exactly, up to the order in which they add up. Where that
does not hold, a changed number of processes is refused before anything is trained, and nothing starts anew silently.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from pathoflow.errors import ConfigError
from pathoflow.training.checkpoints import (
    MARKER,
    PREFIX,
    Difference,
    differences,
    is_complete,
    newest_complete,
    step_of,
)
from pathoflow.training.config import TrainingConfig
from pathoflow.training.job import Job

LAYOUT = ("num_processes", "batch_size_per_process", "gradient_accumulation_steps")
"""Keys that divide a step's samples; their product is the number of samples."""


def find_checkpoint(job: Job, config: TrainingConfig) -> Job:
    """Returns the job with the checkpoint to resume from: its own newest, `resume_from`, or an earlier attempt's.

    An earlier attempt has the same code and inputs, and another configuration that changes nothing in what is learned:
    all that it left is taken over.

    Raises:
        ConfigError: The checkpoint belongs to another run, or to another number of processes that cannot hand over.
    """
    checkpoint = newest_complete(job.checkpoints)
    if checkpoint is None and config.resume_from is not None:
        checkpoint = Path(config.resume_from)
        if not is_complete(checkpoint):
            raise ConfigError(f"resume_from: the files in {checkpoint} are not those that its complete.json lists.")
    if checkpoint is None:
        checkpoint = _of_earlier_attempt(job, config)
    if checkpoint is None:
        return replace(job, checkpoint=None)
    found = _differences(checkpoint, job, config, ("config", "inputs"))
    if foreign := _foreign(found):
        raise ConfigError(
            f"The checkpoint {checkpoint} belongs to another run: {foreign[0]}. Restore that value, or train from the "
            "start: take another checkpoint or none as resume_from, or another --workdir."
        )
    if not found:
        return replace(job, checkpoint=checkpoint)
    if obstacle := _obstacle(found, config):
        raise ConfigError(
            _cannot_hand_over(checkpoint, found, obstacle)
            + " or train from the start: take another checkpoint or none as resume_from, or another --workdir."
        )
    words = f"{_layout(found)} from step {step_of(checkpoint)} on"
    print(f"Going on from {checkpoint} with {words}.", file=sys.stderr)
    return replace(job, checkpoint=checkpoint, notes=job.notes | {"layout": words})


def _of_earlier_attempt(job: Job, config: TrainingConfig) -> Path | None:
    """Takes over the newest checkpoint of an earlier attempt, whose scratch lies beside this one's.

    Raises:
        ConfigError: Other processes trained the same, and cannot hand over.
    """
    other: tuple[Path, Difference] | None = None
    for checkpoint in sorted(job.scratch.parent.glob(f"*/checkpoints/{PREFIX}*"), key=step_of, reverse=True):
        if not (checkpoint / MARKER).is_file():
            continue
        scratch = checkpoint.parent.parent
        found = _differences(checkpoint, job, config, ("code", "config", "inputs"))
        obstacle = _obstacle(found, config)
        if foreign := _foreign(found):
            other = other or (checkpoint, foreign[0])
        elif obstacle is None:
            return _take_over(scratch, job)
        elif any(difference.key == "num_processes" for difference in found):
            raise ConfigError(
                _cannot_hand_over(checkpoint, found, obstacle) + f" or delete {scratch} to start from the beginning."
            )
        else:
            other = other or (checkpoint, found[0])
    if other:
        print(f"Starting from the beginning: {other[0]} belongs to another run, {other[1]}.", file=sys.stderr)
    return None


def _differences(checkpoint: Path, job: Job, config: TrainingConfig, parts: tuple[str, ...]) -> list[Difference]:
    # Who names a checkpoint may have mended the code since: it counts where nobody named one.
    origin = job.origin()
    return differences(checkpoint, {part: origin[part] for part in parts}, config.indifferent)


def _foreign(found: list[Difference]) -> list[Difference]:
    return [difference for difference in found if difference.part != "config" or difference.key not in LAYOUT]


def _obstacle(found: list[Difference], config: TrainingConfig) -> str | None:
    """Returns why processes that share a step's samples in another way cannot resume; None if they can."""
    if not found:
        return None
    now = {key: getattr(config, key) for key in LAYOUT}
    then = now | {difference.key: difference.then for difference in found}
    if (before := _samples(then)) != (here := _samples(now)):
        return f"a step learned from {before} samples there and would from {here} here"
    return config.bound_to_processes()


def _samples(layout: Mapping[str, Any]) -> int:
    return prod(layout[key] or 1 for key in LAYOUT)


def _layout(found: list[Difference]) -> str:
    return ", ".join(f"{difference.key} {difference.now} instead of {difference.then}" for difference in found)


def _cannot_hand_over(checkpoint: Path, found: list[Difference], obstacle: str) -> str:
    return (
        f"The checkpoint {checkpoint} of this training belongs to other processes ({_layout(found)}), and they cannot "
        f"hand over: {obstacle}. Restore {' and '.join(difference.key for difference in found)} to go on from it,"
    )


def _take_over(scratch: Path, job: Job) -> Path | None:
    """Moves an earlier attempt's files into this one's scratch, checkpoints last; returns the newest complete one."""
    print(f"Taking over what an earlier attempt at this training left in {scratch}.", file=sys.stderr)
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    for entry in scratch.iterdir():
        if entry.name != job.checkpoints.name:
            _move(entry, job.scratch / entry.name)
    (scratch / job.checkpoints.name).rename(job.checkpoints)
    shutil.rmtree(scratch)
    return newest_complete(job.checkpoints)


def _move(source: Path, target: Path) -> None:
    """Moves a file or folder; an existing folder gets what it lacks."""
    if not target.exists():
        source.rename(target)
    elif source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            _move(entry, target / entry.name)
