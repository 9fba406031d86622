"""Starts DataLoader workers from a fork server that has no threads.

A training process runs threads of Gloo, NCCL and CUDA. What is forked from it takes along, locked for ever, whatever
lock such a thread held at that moment: on CPython 3.11 a data worker then hangs in `PyOS_AfterFork_Child`, and the
training stands still. Other systems than Linux do not fork, and the server would not end with a killed training there:
they start workers as usual.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver
from typing import Any

from torch.utils.data import DataLoader

from pathoflow.system.processes import die_with_parent

_METHOD = "forkserver"
_FORKS = sys.platform == "linux"


def start_fork_server() -> None:
    """Starts the server in the background, if there is none; it imports what this process's main module does.

    The import takes as long as it took here: an early call shortens the wait for the first batch.
    """
    if not _FORKS:
        return
    main = sys.modules["__main__"].__spec__
    preloaded = ["pathoflow.training.fork_server", *([main.name] if main else [])]
    multiprocessing.get_context(_METHOD).set_forkserver_preload(preloaded)
    forkserver.ensure_running()


def fork_from_server(loader: DataLoader[Any]) -> None:
    """Makes a loader fork its workers, if any, from the server; they end at once with this process.

    The data set and its collator are pickled to them.
    """
    if loader.num_workers and _FORKS:
        start_fork_server()
        loader.multiprocessing_context = _METHOD
        loader.worker_init_fn = partial(_start, loader.worker_init_fn)


def _start(usual: Callable[[int], None] | None, number: int) -> None:
    die_with_parent()
    if usual is not None:
        usual(number)
