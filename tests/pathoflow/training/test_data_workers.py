"""Data workers are not forked from the training process, whose threads may hold any lock at that moment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch.utils.data import DataLoader, Dataset

from pathoflow.training.data_workers import fork_from_server, start_fork_server
from tests.pathoflow.system.test_processes import ends

ROOT = Path(__file__).parents[3]
MODULE = "tests.pathoflow.training.test_data_workers"
NUMBER = "NUMBER_OF_WORKER"


class Origins(Dataset[str]):
    """Tells which process makes a sample, whose child that is, and its number among the workers."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> str:
        return f"{os.getpid()} {os.getppid()} {os.environ.get(NUMBER, '-1')}"


class Slow(Origins):
    """Takes its time to come to another process, until that is an orphan."""

    def __getstate__(self) -> dict[str, Any]:
        return {"any": "thing"}

    def __setstate__(self, _: dict[str, Any]) -> None:
        parent = os.getppid()
        print(os.getpid(), flush=True)
        while os.getppid() == parent:
            time.sleep(0.01)


def note_number(number: int) -> None:
    assert MODULE in sys.modules, "the server has imported what this process runs"
    os.environ[NUMBER] = str(number)


def loader_of(dataset: Dataset[str], num_workers: int) -> DataLoader[str]:
    loader = DataLoader(dataset, batch_size=None, num_workers=num_workers, worker_init_fn=note_number)
    fork_from_server(loader)
    return loader


def origins(num_workers: int) -> set[tuple[int, ...]]:
    return {tuple(map(int, told.split())) for told in loader_of(Origins(), num_workers)}


def look_at_workers() -> None:
    start_fork_server()
    own = os.getpid()
    assert origins(0) == {(own, os.getppid(), -1)}
    first, second = origins(2), origins(2)
    assert sorted(number for *_, number in first) == [0, 1]
    # The next epoch's workers come from the same server.
    (server,) = {parent for _, parent, _ in first | second}
    assert psutil.Process(server).ppid() == own
    threads = {Path(f"/proc/{server}/task/{thread.id}/comm").read_text() for thread in psutil.Process(server).threads()}
    # Arrow's allocator has one that knows nothing of Python.
    assert threads - {"jemalloc_bg_thd\n"} == {Path(f"/proc/{server}/comm").read_text()}


def start_and_wait() -> None:
    start_fork_server()
    print(next(child.pid for child in psutil.Process().children() if "forkserver" in child.cmdline()[-1]), flush=True)
    time.sleep(60)


def ask_the_slow_one() -> None:
    list(loader_of(Slow(), 1))


def training(what: str) -> subprocess.Popen[str]:
    """This module's own function in a process of its own."""
    command = [sys.executable, "-m", MODULE, what]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_workers_are_forked_by_a_server_that_has_no_threads():
    assert training("look_at_workers").wait(60) == 0


@pytest.mark.races
def test_a_server_that_still_imports_ends_with_a_training_that_is_killed():
    killed = training("start_and_wait")
    server = int(killed.stdout.readline())
    # With torch's library it is past what it imports first, and still far from the last.
    deadline = time.monotonic() + 30
    while "libtorch" not in Path(f"/proc/{server}/maps").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    assert ends(server)


@pytest.mark.races
def test_a_worker_that_still_starts_ends_with_a_training_that_is_killed():
    killed = training("ask_the_slow_one")
    worker = int(killed.stdout.readline())
    server = psutil.Process(worker).parent()
    killed.kill()
    assert ends(server.pid)
    assert ends(worker)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
