"""Exchanges reports between the processes of a training that hangs, and explains them to the user.

```
standstill/
├── asked          a process was asked to stop, and has not yet
├── waiting-3      since then, process 3 waits in a collective and nothing moves in it
└── rank-3.json    process 3 ends, and says where it was; the others follow
```
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pathoflow.system.files import write_atomically

FOLDER = "standstill"
ASKED = "asked"
_WAITING, _RANK = "waiting-", "rank-"
_SHOWN = 8

Cause = Literal["waited", "asked", "deadlock", "not_begun", "followed"]
"""Reason why a process ended itself: it waited too long; it was asked to stop and its grace is over, or all processes
wait for each other, or it has nothing to save yet; or another process ended."""


@dataclass(frozen=True)
class HangReport:
    """Last report of one process.

    Attributes:
        rank: The process.
        cause: Why it ended itself.
        place: Where it was, see `stacks.place`.
        still_s: Seconds for which it had been exactly there.
        step: The optimiser step that it was in; None before the first.
    """

    rank: int
    cause: Cause
    place: str
    still_s: float
    step: int | None = None


class HangReportFolder:
    """Folder in which the processes of a run see each other's reports.

    Args:
        folder: On a volume that all of them share.
        rank: This process.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder, self._rank = folder, rank
        self._waits = False
        folder.mkdir(parents=True, exist_ok=True)

    def names(self) -> set[str]:
        """Lists the names in the folder."""
        with suppress(OSError):
            return set(os.listdir(self._folder))
        return set()

    def ask(self) -> None:
        """Tells the others that this process was asked to stop."""
        with suppress(OSError):
            (self._folder / ASKED).touch()

    def wait(self, waits: bool) -> None:
        """Tells the others whether this process waits in a collective, if that has changed."""
        if waits == self._waits:
            return
        self._waits = waits
        path = self._folder / f"{_WAITING}{self._rank}"
        with suppress(OSError):
            if waits:
                path.touch()
            else:
                path.unlink(missing_ok=True)

    def report(self, report: HangReport) -> None:
        """Writes this process's last report."""
        with suppress(OSError):
            write_atomically(self._folder / f"{_RANK}{self._rank}.json", json.dumps(asdict(report)))


def num_waiting(names: set[str]) -> int:
    """Counts the processes that wait in a collective."""
    return sum(name.startswith(_WAITING) for name in names)


def num_ended(names: set[str]) -> int:
    """Counts the processes that have written their last report."""
    return sum(name.startswith(_RANK) for name in names)


def forget(scratch: Path) -> None:
    """Removes the reports of an earlier attempt from a job's scratch."""
    shutil.rmtree(scratch / FOLDER, ignore_errors=True)


def reports(scratch: Path) -> list[HangReport]:
    """Reads the reports of a job's processes, by rank."""
    found = []
    for path in (scratch / FOLDER).glob(f"{_RANK}*.json"):
        with suppress(OSError, ValueError, TypeError):
            found.append(HangReport(**json.loads(path.read_bytes())))
    return sorted(found, key=lambda report: report.rank)


def explain(found: Sequence[HangReport], num_processes: int, stage: str, limit_s: float, grace_s: float) -> str:
    """Explains to the user why a training ended itself, and what to do.

    Args:
        found: The last reports of the processes, by rank; at least one.
        num_processes: Number of processes.
        stage: Name of the stage whose keys the message names.
        limit_s: The stage's `collective_timeout_s`.
        grace_s: Its `checkpoint_grace_s`.
    """
    causes = {report.cause for report in found}
    where = _places(found, num_processes)
    again = "Run the same command again to go on from the last complete checkpoint"
    if "waited" in causes:
        return (
            f"Training stood still for {stage}.collective_timeout_s = {limit_s:g} s and was ended. {where} "
            "A process that was elsewhere than the others is the one they waited for; if all were in collectives, "
            f"these are not the same ones. {again}; if the processes were merely slow, raise that key."
        )
    if "deadlock" in causes:
        return (
            "Training was asked to stop and was ended without another checkpoint, since all processes waited for each "
            f"other. {where} {again}; if it stands still there again, the processes do not call the same collectives."
        )
    if "asked" in causes:
        return (
            "Training was asked to stop and was ended without another checkpoint, since it did not finish its step and "
            f"save within {stage}.checkpoint_grace_s = {grace_s:g} s. {where} {again}; if step and checkpoint need "
            "longer than that, raise the key, and what grants the grace outside (terminationGracePeriodSeconds)."
        )
    return f"Training was asked to stop before its first step. {where} {again}."


def _places(found: Sequence[HangReport], num_processes: int) -> str:
    """Describes where the processes were, grouped by place, the longest wait first."""
    together: dict[str, list[HangReport]] = defaultdict(list)
    for report in found:
        together[report.place].append(report)
    groups = sorted(together.items(), key=lambda group: -max(report.still_s for report in group[1]))
    words = []
    for place, members in groups[:_SHOWN]:
        still_s = max(report.still_s for report in members)
        steps = sorted({report.step for report in members if report.step is not None})
        step = f" in step {steps[0]}" if steps else ""
        words.append(
            f"{_ranks([report.rank for report in members], num_processes)}, for {still_s:.0f} s{step}: {place}"
        )
    if silent := sorted(set(range(num_processes)) - {report.rank for report in found}):
        words.append(f"{_ranks(silent, num_processes)}: left no word")
    joined = "; ".join(words)
    return f"{joined[:1].upper()}{joined[1:]}."


def _ranks(ranks: Sequence[int], num_processes: int) -> str:
    """Names processes by their ranks.

    >>> _ranks([1], 4), _ranks([0, 2, 3], 4), _ranks(range(12), 12)
    ('process 1 of 4', 'processes 0, 2, 3 of 4', 'processes 0, 1, 2, 3, 4, 5, 6, 7 and 4 more of 12')
    """
    shown = ", ".join(map(str, ranks[:_SHOWN]))
    more = f" and {len(ranks) - _SHOWN} more" if len(ranks) > _SHOWN else ""
    return f"process{'es' if len(ranks) > 1 else ''} {shown}{more} of {num_processes}"
