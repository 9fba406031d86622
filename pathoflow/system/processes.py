"""Ends processes with the one that started them, and stops them on request."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

import psutil

_PR_SET_PDEATHSIG = 1

STOP_REQUESTED = threading.Event()
"""Set from the signal that asks this process to stop until it has done so."""


def interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Handles a signal by raising `KeyboardInterrupt`.

    Python drops what is raised while a weak reference dies or an object is finalised. `STOP_REQUESTED` outlives that.
    """
    STOP_REQUESTED.set()
    raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Raises the `KeyboardInterrupt` of `interrupt` again if Python dropped it."""
    if STOP_REQUESTED.is_set():
        raise KeyboardInterrupt


def die_with_parent(parent: int | None = None) -> None:
    """Asks the Linux kernel to kill this process when its parent dies, so that a killed run leaves nothing behind.

    Elsewhere it does nothing.

    Args:
        parent: The parent's process id, if this process has it from the parent itself. Then a parent that died before
            the call is noticed, too. A process that `multiprocessing` spawned notices it without, and one from its
            fork server dies with the server, which dies with whoever asked for the process.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except AttributeError:
        return
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None:
        is_orphan = os.getppid() != parent
    else:
        known = multiprocessing.parent_process()
        is_orphan = known is not None and not known.is_alive()
    if is_orphan:
        os.kill(os.getpid(), signal.SIGKILL)


def die_with(pid: int, interval_s: float = 0.25) -> None:
    """Kills this process soon after the process `pid` is gone.

    For a process whose parent is a shell that would survive the one to follow, as in KFP's local runner.
    """

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            owner = psutil.Process(pid)
            # `is_running` compares creation times, so that a reused process id does not deceive it.
            while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
                time.sleep(interval_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with").start()
