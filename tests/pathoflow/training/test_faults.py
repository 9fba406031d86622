"""What happens to a training's processes: signals to one and to all, kills at any moment, a dying one, a full disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from pathoflow.errors import Preempted, StageError
from pathoflow.training.checkpoints import MARKER, PREFIX, SAVING, newest_complete, step_of
from tests.pathoflow.system.test_processes import ends
from tests.support.toy_training.attempt import Attempt, outcome


@pytest.mark.races
def test_a_stop_of_one_process_a_kill_and_a_stop_of_all_cost_nothing_but_time(tmp_path, undisturbed):
    where = tmp_path / "run"
    one = Attempt(where, data_workers=1)
    one.wait_for(f"checkpoints/{PREFIX}5/{MARKER}")
    os.kill(one.rank(1), signal.SIGTERM)
    assert one.end(60) == Preempted.exit_code, one.words()
    first = step_of(newest_complete(one.checkpoints))
    assert 5 <= first < 40
    one.forget_start()

    steps = kill_at_random(where, 1, seed=0, data_workers=1)
    assert steps[-1] >= first

    everything = Attempt(where, data_workers=1)
    everything.wait_for("started-1")
    everything.wait_for("report/progress.json")
    processes = everything.processes()
    for process in [everything.stage, *processes]:
        process.send_signal(signal.SIGTERM)
    # A stop may come after the last step.
    assert everything.end(60) in (Preempted.exit_code, 0), everything.words()
    assert not psutil.wait_procs(processes, timeout=10)[1]

    last = Attempt(where, data_workers=1)
    assert last.end() == 0, last.words()
    assert outcome(where) == undisturbed


@pytest.mark.races
def test_what_aborts_an_interpreter_that_has_done_its_work_fails_no_training(tmp_path, undisturbed):
    """As threads of libraries do now and then, when the model is written or a stop's checkpoint is."""
    where = tmp_path / "run"
    stopped = Attempt(where, aborts_at_exit=True)
    stopped.wait_for(f"checkpoints/{PREFIX}5/{MARKER}")
    os.kill(stopped.rank(1), signal.SIGTERM)
    assert stopped.end(60) == Preempted.exit_code, stopped.words()
    last = Attempt(where, aborts_at_exit=True)
    assert last.end() == 0, last.words()
    assert outcome(where) == undisturbed


@pytest.mark.races
def test_processes_that_load_data_end_with_a_training_that_is_killed(tmp_path):
    attempt = Attempt(tmp_path / "run", data_workers=1, max_steps=100_000)
    wait_for_a_step(attempt)
    agent, *others = attempt.processes()
    assert sum("data_worker" in process.name() for process in others) == 2
    attempt.stage.kill()
    attempt.end()
    # PyTorch's own watch over the parent takes up to five seconds to notice, and one full queue makes it wait for ever.
    assert all(ends(process.pid, 2) for process in (agent, *others))


@pytest.mark.races
def test_a_stop_before_training_began_is_resumable_too(tmp_path):
    attempt = Attempt(tmp_path / "run")
    deadline = time.monotonic() + 60
    while len(attempt.processes()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    attempt.processes()[-1].send_signal(signal.SIGTERM)
    assert attempt.end(60) == Preempted.exit_code, attempt.words()


def kill_at_random(where: Path, kills: int, seed: int, **values) -> list[int]:
    """Kills a run so often at random moments: by turns of its whole course, between steps, and while it saves.

    Returns:
        The steps of the checkpoints that it could go on from.
    """
    generator = random.Random(seed)
    steps, num_torn = [0], 0
    for number in range(kills):
        attempt = Attempt(where, **values)
        attempt.wait_for("started-0")
        if wait := (None, wait_for_a_step, wait_for_a_save)[number % 3]:
            wait(attempt)
        # On a busy machine the first seconds see no step, and on an idle one a save takes no longer than the last.
        time.sleep(generator.uniform(0.0, (3.0, 1.0, 0.05)[number % 3]))
        processes = attempt.processes() if attempt.stage.poll() is None else []
        attempt.stage.kill()
        attempt.end()
        assert not psutil.wait_procs(processes, timeout=10)[1], "processes outlived the stage"
        attempt.forget_start()
        num_torn += any(attempt.checkpoints.glob(f"{SAVING}*"))
        found = newest_complete(attempt.checkpoints)
        steps.append(step_of(found) if found else 0)
        assert steps[-1] >= steps[-2], "a checkpoint that had been complete was lost"
    print(f"{num_torn} of {kills} kills left a checkpoint half-written; could go on from steps {steps}")
    assert num_torn or kills < 3
    return steps


def wait_for_a_step(attempt: Attempt) -> None:
    progress, began = attempt.where / "scratch" / "report" / "progress.json", time.time()
    while attempt.stage.poll() is None and not (progress.exists() and progress.stat().st_mtime > began):
        time.sleep(0.005)


def wait_for_a_save(attempt: Attempt) -> None:
    while attempt.stage.poll() is None and not any(attempt.checkpoints.glob(f"{SAVING}*")):
        time.sleep(0.002)


# Half of the time goes into saving, and there are steps left after the last kill.
KILLED = {"save_every_steps": 1, "num_extra": 1_000_000, "max_steps": 150}


@pytest.fixture(scope="module")
def whole_with_ballast(tmp_path_factory):
    where = tmp_path_factory.mktemp("ballast") / "run"
    assert Attempt(where, **KILLED).end() == 0
    return outcome(where)


@pytest.mark.races
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("background", [False, True])
def test_thirty_kills(tmp_path, whole_with_ballast, background):
    kill_at_random(tmp_path / "run", 15, seed=int(background), **KILLED, background_checkpoints=background)
    last = Attempt(tmp_path / "run", **KILLED, background_checkpoints=background)
    assert last.end() == 0, last.words()
    assert outcome(tmp_path / "run") == whole_with_ballast


@pytest.mark.slow
def test_a_process_that_dies_stops_all_and_is_named_with_its_last_words(tmp_path):
    attempt = Attempt(tmp_path / "raised", fails_at=7, max_steps=1000)
    assert attempt.end() == StageError.exit_code
    assert "failed in process 1 of 2, which ended with exit code 1" in attempt.words()
    assert "RuntimeError: the toy broke" in attempt.words().rpartition("Its last lines:")[2]


@pytest.mark.races
def test_a_killed_process_stops_all_within_a_minute(tmp_path):
    attempt = Attempt(tmp_path / "run", max_steps=1000)
    attempt.wait_for(f"checkpoints/{PREFIX}5/{MARKER}")
    processes = attempt.processes()
    os.kill(attempt.rank(1), signal.SIGKILL)
    assert attempt.end(60) == StageError.exit_code
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert "process 1 of 2, which was killed by SIGKILL" in attempt.words()


@pytest.mark.parametrize("background", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, background):
    where = tmp_path / "run"
    checkpoints = where / "scratch" / "checkpoints"
    checkpoints.mkdir(parents=True)
    # Room for one checkpoint and a half: weights and two moments of half a million numbers are 6 MB.
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", checkpoints], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system of a given size can be mounted here: {mounted.stderr.decode().strip()}")
    values = {"num_extra": 500_000, "num_processes": 1, "background_checkpoints": background}
    try:
        attempt = Attempt(where, **values)
        assert attempt.end() == StageError.exit_code
        assert "No space left on device" in attempt.words(), attempt.words()
        assert step_of(newest_complete(checkpoints)) == 5
        subprocess.run(["mount", "-o", "remount,size=64m", checkpoints], check=True)
        again = Attempt(where, **values, max_steps=12)
        assert again.end() != 0, "another configuration"
        assert "max_steps was 40 there and is 12 here" in again.words()
        assert Attempt(where, **values).end() == 0
    finally:
        subprocess.run(["umount", "-l", checkpoints], check=True)
