"""Writes checkpoints so that each is either complete, byte for byte, or ignored.

```
checkpoints/
├── .saving-80/         being written; a kill leaves it behind, and the next start deletes it
│   └── .rank-1.json    a process has written its files, and these are their hashes
└── checkpoint-40/      took this name when every file was on the disk
    ├── …               weights, optimiser, scheduler, random numbers of each process, position in the data
    ├── origin.json     the configuration, the inputs and the code that it belongs to
    └── complete.json   written last: every file with its SHA-256
```
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pathoflow.system.files import sha256_of_file, sync_directory, sync_file, sync_tree, write_atomically

MARKER = "complete.json"
ORIGIN = "origin.json"
PREFIX = "checkpoint-"
SAVING = ".saving-"
_RANK = ".rank-"
_POLL_S = 0.02


class Difference(NamedTuple):
    """Value in which a checkpoint's run and another run differ; None where a run has none."""

    part: str
    key: str
    then: Any
    now: Any

    def __str__(self) -> str:
        of = {"config": "the configuration's", "inputs": "the input", "code": "the code's"}[self.part]
        return f"{of} {self.key} was {self.then!r} there and is {self.now!r} here"


def staging_of(directory: Path, step: int) -> Path:
    """Returns the directory in which the processes write a checkpoint that is not complete yet."""
    return directory / f"{SAVING}{step}"


def list_files(staging: Path, rank: int, files: list[Path]) -> None:
    """Makes the files of one process durable and records their hashes."""
    for path in files:
        sync_file(path)
    digests = {path.relative_to(staging).as_posix(): sha256_of_file(path) for path in files}
    write_atomically(staging / f"{_RANK}{rank}.json", json.dumps(digests))


def all_listed(staging: Path, num_processes: int) -> bool:
    """Returns whether every process has written and listed its files."""
    return all((staging / f"{_RANK}{rank}.json").is_file() for rank in range(num_processes))


def wait_until_listed(staging: Path, num_processes: int) -> None:
    """Waits until every process has listed its files; a process that fails ends the whole run, and the wait."""
    while not all_listed(staging, num_processes):
        time.sleep(_POLL_S)


def complete(staging: Path, origin: Mapping[str, Any], keep: int) -> Path:
    """Turns a staging directory that all processes have written into a complete checkpoint.

    Args:
        staging: From `staging_of`.
        origin: The run that the checkpoint belongs to.
        keep: Complete checkpoints that stay, this one included.

    Returns:
        The checkpoint.
    """
    (staging / ORIGIN).write_text(json.dumps(origin, indent=2, sort_keys=True) + "\n")
    digests: dict[str, str] = {}
    for listing in staging.glob(f"{_RANK}*.json"):
        digests |= json.loads(listing.read_bytes())
        listing.unlink()
    for path in _files(staging):
        # Small files that no process claims, as DeepSpeed writes them.
        if path not in digests:
            digests[path] = sha256_of_file(staging / path)
    sync_tree(staging)
    directory = staging.parent
    checkpoint = directory / f"{PREFIX}{staging.name.removeprefix(SAVING)}"
    shutil.rmtree(checkpoint, ignore_errors=True)
    staging.rename(checkpoint)
    sync_directory(directory)
    write_atomically(checkpoint / MARKER, json.dumps(digests, indent=2, sort_keys=True) + "\n")
    for old in sorted(directory.glob(f"{PREFIX}*"), key=step_of)[:-keep]:
        _remove(old)
    return checkpoint


def is_complete(checkpoint: Path) -> bool:
    """Returns whether a checkpoint has its marker and exactly the files, byte for byte, that the marker lists."""
    try:
        digests = json.loads((checkpoint / MARKER).read_bytes())
        return _files(checkpoint) == sorted(digests) and all(
            sha256_of_file(checkpoint / path) == digest for path, digest in digests.items()
        )
    except (OSError, ValueError):
        return False


def newest_complete(directory: Path) -> Path | None:
    """Returns the checkpoint to resume from, after deleting incomplete and damaged ones."""
    for leftover in directory.glob(f"{SAVING}*"):
        shutil.rmtree(leftover)
    for checkpoint in sorted(directory.glob(f"{PREFIX}*"), key=step_of, reverse=True):
        if is_complete(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def differences(checkpoint: Path, origin: Mapping[str, Any], indifferent: frozenset[str]) -> list[Difference]:
    """Compares the run that wrote a complete checkpoint with the one that is about to start.

    Args:
        checkpoint: A complete one.
        origin: The run that is about to start: parts such as `config` and `inputs`, each with its values.
        indifferent: Keys of the configuration that may differ.
    """
    saved = json.loads((checkpoint / ORIGIN).read_bytes())
    found = []
    for part, now in origin.items():
        then = saved.get(part, {})
        keys = sorted(then.keys() | now.keys())
        found += [
            Difference(part, key, then.get(key), now.get(key))
            for key in keys
            if then.get(key) != now.get(key) and not (part == "config" and key in indifferent)
        ]
    return found


def step_of(checkpoint: Path) -> int:
    """Returns the optimiser step after which a checkpoint was written; -1 for a name without one.

    >>> step_of(Path("checkpoint-40")), step_of(Path("checkpoint-best"))
    (40, -1)
    """
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def _remove(checkpoint: Path) -> None:
    """Deletes a checkpoint, its marker first: a kill in between must not leave a torn one that looks complete."""
    (checkpoint / MARKER).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _files(checkpoint: Path) -> list[str]:
    paths = (path for path in checkpoint.rglob("*") if path.is_file() and path.name != MARKER)
    return sorted(path.relative_to(checkpoint).as_posix() for path in paths)
