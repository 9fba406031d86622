"""Checkpoints that a killed run can trust: each is complete or ignored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pathoflow.files import sha256_of_file, sync_tree, write_atomically

MARKER = "complete.json"
PREFIX = "checkpoint-"


def mark_complete(checkpoint: Path) -> None:
    """Makes a checkpoint durable and then records the SHA-256 of each of its files in `complete.json`."""
    sync_tree(checkpoint)
    digests = {path: sha256_of_file(checkpoint / path) for path in _files(checkpoint)}
    write_atomically(checkpoint / MARKER, json.dumps(digests, indent=2, sort_keys=True) + "\n")


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint has its marker and exactly the files, byte for byte, that the marker lists."""
    try:
        digests = json.loads((checkpoint / MARKER).read_bytes())
        return _files(checkpoint) == sorted(digests) and all(
            sha256_of_file(checkpoint / path) == digest for path, digest in digests.items()
        )
    except (OSError, ValueError):
        return False


def newest_complete(directory: Path) -> Path | None:
    """The checkpoint to resume from, after deleting every newer one that a kill left half-written.

    transformers' Trainer writes in place and would resume from the highest number, complete or not.
    """
    for checkpoint in sorted(directory.glob(f"{PREFIX}*"), key=step_of, reverse=True):
        if is_complete(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written; -1 for a name that has none.

    >>> step_of(Path("checkpoint-40")), step_of(Path("checkpoint-best"))
    (40, -1)
    """
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def _files(checkpoint: Path) -> list[str]:
    paths = (path for path in checkpoint.rglob("*") if path.is_file() and path.name != MARKER)
    return sorted(path.relative_to(checkpoint).as_posix() for path in paths)
