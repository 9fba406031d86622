"""Trainings that really hang, in real processes: how they end, what they say, and where they go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import timedelta
from statistics import median

import psutil
import pytest
import torch
from torch.distributed import HashStore, distributed_c10d

from pathoflow.errors import Preempted
from pathoflow.training.checkpoints import newest_complete, step_of
from pathoflow.training.hang_reports import HangReport, HangReportFolder, reports
from pathoflow.training.watchdog import Watchdog, backend_timeout
from tests.support.toy_training.attempt import Attempt, outcome

SHORT = {"max_steps": 14, "hangs_at": 12}
WAITING = "callbacks.py:"
"""Where a process waits for one that is away: in the sum of all processes' requests to stop."""


def hanging(where, **values) -> tuple[Attempt, list[psutil.Process]]:
    attempt = Attempt(where, **SHORT | values)
    for rank in (0, 1):
        attempt.wait_for(f"hangs-{rank}")
    return attempt, attempt.processes()


def words_of(attempt: Attempt) -> str:
    return attempt.words().rpartition("Training ")[2]


def test_a_training_that_stands_still_is_ended_says_who_was_where_and_goes_on_from_its_checkpoint(tmp_path):
    whole = Attempt(tmp_path / "whole", **SHORT | {"hangs_at": 0})
    attempt, processes = hanging(tmp_path / "run", collective_timeout_s=3)
    started = time.monotonic()
    assert attempt.end(30) == Preempted.exit_code, attempt.words()
    assert time.monotonic() - started < 30
    assert not psutil.wait_procs(processes, timeout=10)[1]
    words = words_of(attempt)
    assert words.startswith("stood still for toy_training.collective_timeout_s = 3 s")
    process_0, process_1 = (words[words.lower().index(f"process {rank} of 2") :].split(";")[0] for rank in (0, 1))
    assert WAITING in process_0
    assert "(all_reduce)" in process_0
    assert "in step 12" in process_0
    assert "tests/support/toy_training/worker.py" in process_1
    assert step_of(newest_complete(attempt.checkpoints)) == 10
    attempt.forget_start()
    again = Attempt(attempt.where, **SHORT | {"hangs_at": 0})
    assert again.end(60) == 0, again.words()
    assert whole.end(60) == 0, whole.words()
    assert outcome(attempt.where) == outcome(whole.where)


@pytest.mark.parametrize("asked", ["stage", pytest.param("rank", marks=pytest.mark.slow)])
def test_a_request_to_stop_ends_a_hanging_training_within_its_grace(tmp_path, asked):
    attempt, processes = hanging(tmp_path / "run", hang="all_wait", checkpoint_grace_s=8)
    started = time.monotonic()
    os.kill(attempt.stage.pid if asked == "stage" else attempt.rank(1), signal.SIGTERM)
    assert attempt.end(30) == Preempted.exit_code, attempt.words()
    # torchrun's last looks and the end of the processes included.
    assert time.monotonic() - started < 25
    assert not psutil.wait_procs(processes, timeout=10)[1]
    # They ended by themselves, before torchrun killed them.
    assert {report.rank for report in reports(attempt.where / "scratch")} == {0, 1}
    assert "forcefully exiting" not in attempt.words()
    assert words_of(attempt).startswith("was asked to stop and was ended without another checkpoint")
    assert "toy_training.checkpoint_grace_s = 8 s" in words_of(attempt)
    assert step_of(newest_complete(attempt.checkpoints)) == 10


@pytest.mark.slow
def test_processes_that_all_wait_for_each_other_do_not_use_up_a_long_grace(tmp_path):
    attempt, _ = hanging(tmp_path / "run", hang="all_wait", checkpoint_grace_s=600)
    os.kill(attempt.stage.pid, signal.SIGTERM)
    assert attempt.end(60) == Preempted.exit_code, attempt.words()
    assert "all processes waited for each other" in words_of(attempt)


class Ended(Exception):
    """In the place of the end of the process."""


def watchdog(tmp_path, monkeypatch, rank=0, num_processes=2, **limits) -> Watchdog:
    limits = {"limit_s": 1000.0, "grace_s": 100.0} | limits
    watching = Watchdog(HangReportFolder(tmp_path, rank), rank, num_processes, **limits)

    def end(report, innermost):
        raise Ended(report.cause)

    # A training in this process may have left its last step there.
    monkeypatch.setattr(Watchdog, "step", None)
    monkeypatch.setattr(watching, "_end", end)
    return watching


@pytest.fixture
def blocked():
    """The innermost frame of a thread that waits."""
    over, there = threading.Event(), threading.Event()

    def wait():
        there.set()
        over.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    there.wait()
    time.sleep(0.1)
    yield sys._current_frames()[thread.ident]
    over.set()
    thread.join()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_only_one_of_several_processes_waits_in_vain(tmp_path, monkeypatch, blocked, num_processes):
    watching = watchdog(tmp_path, monkeypatch, num_processes=num_processes, limit_s=100.0)
    for now in range(0, 100, 5):
        watching._look(blocked, float(now))
    if num_processes == 1:
        watching._look(blocked, 105.0)
    else:
        with pytest.raises(Ended, match="waited"):
            watching._look(blocked, 105.0)


def test_a_process_ends_with_its_peers(tmp_path, monkeypatch, blocked):
    watching = watchdog(tmp_path, monkeypatch)
    watching._look(blocked, 0.0)
    HangReportFolder(tmp_path, 1).report(HangReport(1, "waited", "somewhere", 1000.0))
    with pytest.raises(Ended, match="followed"):
        watching._look(blocked, 1.0)


def test_what_has_nothing_to_save_stops_at_once_and_what_is_in_a_step_gets_its_grace(tmp_path, monkeypatch, blocked):
    watching = watchdog(tmp_path, monkeypatch)
    watching._asked_at = 0.0
    watching._look(blocked, 1.0)
    with pytest.raises(Ended, match="not_begun"):
        watching._look(blocked, 3.0)
    monkeypatch.setattr(Watchdog, "step", 7)
    for now in range(3, 95):
        watching._look(blocked, float(now))
    with pytest.raises(Ended, match="asked"):
        watching._look(blocked, 95.5)


def test_backends_are_more_patient_than_the_watchdog_in_groups_that_libraries_make_too(monkeypatch):
    for name in ("default_pg_timeout", "default_pg_nccl_timeout"):
        monkeypatch.setattr(distributed_c10d, name, getattr(distributed_c10d, name))
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1, timeout=backend_timeout(7200))
    try:
        for group in (torch.distributed.group.WORLD, torch.distributed.new_group([0])):
            assert group._get_backend(torch.device("cpu")).options._timeout > timedelta(seconds=7200)
    finally:
        torch.distributed.destroy_process_group()


def test_a_look_takes_less_than_a_thousandth_of_the_time_between_two(tmp_path, monkeypatch):
    watching = watchdog(tmp_path, monkeypatch, limit_s=1800.0)

    def deep(calls: int) -> float:
        if calls:
            return deep(calls - 1)
        took = []
        for now in range(200):
            started = time.perf_counter()
            watching._look(sys._getframe(), float(now))
            took.append(time.perf_counter() - started)
        return median(took)

    look_s = deep(80)
    print(f"a look at 80 calls: {1e6 * look_s:.0f} µs every {watching._look_s:g} s")
    assert look_s < 0.001 * watching._look_s
