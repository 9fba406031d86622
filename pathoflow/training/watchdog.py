"""Ends a training process that hangs, or that was asked to stop and cannot.

A process in a collective waits in C, where Python's signal handlers do not run. So a thread watches. It needs neither
the backend's own timeouts nor the waiting thread, only the GIL, which every blocking call releases.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import ClassVar

from torch.distributed import distributed_c10d

from pathoflow.errors import Preempted
from pathoflow.training.hang_reports import ASKED, FOLDER, Cause, HangReport, HangReportFolder, num_ended, num_waiting
from pathoflow.training.job import Job
from pathoflow.training.stack_traces import StuckTimer, in_collective, place

# Between two looks: a hundredth of the limit, within these bounds.
_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 0.05, 5.0
# After it was asked to stop, a process that has nothing to save ends by itself within moments, if it can.
_NOTHING_TO_SAVE_S = 2.0
# No collective that all processes have entered takes longer, unless it moves very much.
_DEADLOCK_S = 30.0
# Processes end a little before torchrun would kill them, to say where they were.
_MARGIN_SHARE, _LONGEST_MARGIN_S = 0.2, 5.0
# For the others' last words.
_WORDS_S = 2.0


@contextmanager
def watched(job: Job) -> Iterator[None]:
    """Runs a watchdog over this process's main thread, which must be the caller's."""
    rank, num_processes = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    watchdog = Watchdog(
        HangReportFolder(job.scratch / FOLDER, rank),
        rank,
        num_processes,
        limit_s=job.config["collective_timeout_s"],
        grace_s=job.config["checkpoint_grace_s"],
    )
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()


def backend_timeout(limit_s: float) -> timedelta:
    """Sets and returns how long a backend may wait in a collective: longer than the watchdog, which explains more.

    It holds for the groups that libraries make later, too, which would take NCCL's ten minutes.
    """
    longer = timedelta(seconds=2 * limit_s + 600)
    distributed_c10d.default_pg_timeout = distributed_c10d.default_pg_nccl_timeout = longer
    return longer


class Watchdog:
    """Samples the main thread's stack from time to time.

    Args:
        board: Folder with the reports of all processes.
        rank: Rank of this process.
        num_processes: Number of processes.
        limit_s: The longest that one of several may stand still.
        grace_s: The longest between the request to stop and the end.

    Attributes:
        step: The optimiser step that this process is in; None before the first, when a stop has nothing to save.
    """

    step: ClassVar[int | None] = None

    def __init__(
        self, board: HangReportFolder, rank: int, num_processes: int, *, limit_s: float, grace_s: float
    ) -> None:
        self._board, self._rank, self._num_processes = board, rank, num_processes
        self._limit_s = limit_s
        self._stop_s = grace_s - min(_MARGIN_SHARE * grace_s, _LONGEST_MARGIN_S)
        self._look_s = min(max(limit_s / 100, _SHORTEST_LOOK_S), _LONGEST_LOOK_S)
        self._asked_look_s = min(self._look_s, grace_s / 20, 1.0)
        doubt_after_s = min(limit_s, _DEADLOCK_S) / 2
        self._stillness = StuckTimer(doubt_after_s, gap_s=10 * self._look_s + 10)
        self._main = threading.get_ident()
        self._asked_at: float | None = None
        self._wakeup, self._signals = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watchdog")

    def start(self) -> None:
        """Starts watching. Signals wake it up, even those whose Python handlers the main thread cannot run."""
        signal.set_wakeup_fd(self._signals, warn_on_full_buffer=False)
        self._thread.start()

    def stop(self) -> None:
        """Stops watching."""
        self._over.set()
        signal.set_wakeup_fd(-1)
        os.write(self._signals, b"\0")
        self._thread.join()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._wakeup], [], [], self._look_s)
            signals = os.read(self._wakeup, 4096) if ready else b""
            if self._over.is_set():
                return
            if signal.SIGTERM in signals and self._asked_at is None:
                self._asked_at = time.monotonic()
                self._board.ask()
            if innermost := sys._current_frames().get(self._main):
                self._look(innermost, time.monotonic())
            # Else it would keep alive what the main thread leaves.
            del innermost

    def _look(self, innermost: FrameType, now: float) -> None:
        still_s = self._stillness.seconds(innermost, now)
        names = self._board.names()
        if ASKED in names:
            self._look_s = self._asked_look_s
            self._board.wait(still_s >= _DEADLOCK_S and in_collective(innermost))
        if cause := self._cause(names, still_s, now):
            self._end(HangReport(self._rank, cause, place(innermost), round(still_s, 1), self.step), innermost)

    def _cause(self, names: set[str], still_s: float, now: float) -> Cause | None:
        """Returns why this process must end now; None if it need not."""
        if num_ended(names):
            return "followed"
        if still_s >= self._limit_s and self._num_processes > 1:
            return "waited"
        if self._asked_at is not None:
            asked_s = now - self._asked_at
            if self.step is None and asked_s >= _NOTHING_TO_SAVE_S:
                return "not_begun"
            if asked_s >= self._stop_s:
                return "asked"
        if ASKED in names and num_waiting(names) == self._num_processes > 1:
            return "deadlock"
        return None

    def _end(self, report: HangReport, innermost: FrameType) -> None:
        """Reports, waits a moment for the others' reports and ends the process, whatever its main thread does."""
        try:
            self._board.report(report)
            words = f"Process {report.rank} ends ({report.cause}) after {report.still_s:g} s at {report.place}.\n"
            with suppress(OSError):
                # Not by `sys.stderr`, whose lock the main thread may hold.
                os.write(2, (words + "".join(traceback.format_stack(innermost))).encode())
            deadline = time.monotonic() + _WORDS_S + 2 * self._look_s
            while num_ended(self._board.names()) < self._num_processes and time.monotonic() < deadline:
                time.sleep(_SHORTEST_LOOK_S)
        finally:
            os._exit(Preempted.exit_code)
