"""The state of a work directory, and that one process at a time holds it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pathoflow.contract.workdir import RunRecord, StageState, WorkDir
from pathoflow.errors import BusyError


@pytest.fixture
def place(tmp_path) -> WorkDir:
    workdir = WorkDir(tmp_path / "work")
    workdir.create()
    return workdir


def test_states_and_runs_are_kept(place):
    assert place.read_state("sft").status == "waiting"
    assert place.read_run() is None
    state = StageState("sft", "done", num_in=3, metrics={"loss": 0.1}, notes={"rule": "dev ✓"})
    run = RunRecord("1", "smoke", "d", ["sft"], [], ["sft"], ["sft.seed=1"], started_at=1.5)
    place.write_state(state)
    place.write_run(run)
    again = WorkDir(place.root)
    assert again.read_state("sft") == state
    assert again.read_run() == run


def test_a_relative_root_means_the_same_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = WorkDir(WorkDir(tmp_path).root / "work")
    relative = WorkDir(place.root.relative_to(tmp_path))
    monkeypatch.chdir("/")
    assert relative.root == place.root


def test_each_work_directory_has_a_name_of_its_own_and_keeps_it_when_moved(tmp_path):
    one, other = WorkDir(tmp_path / "one"), WorkDir(tmp_path / "other")
    for place in (one, other):
        place.create()
    name = one.id
    assert name != other.id
    one.root.rename(tmp_path / "moved")
    assert WorkDir(tmp_path / "moved").id == name


HOLDER = """
import sys, time
from pathlib import Path
from pathoflow.contract.workdir import WorkDir
with WorkDir(Path(sys.argv[1])).lock(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(place):
    """Holds a lock of the work directory in another process."""
    holders = []

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(place.root), name]
        holders.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert holders[-1].stdout.readline() == "held\n"
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill()
        holder.wait()


def test_a_second_process_is_told_and_a_killed_one_lets_go(place, hold):
    holder = hold("run")
    assert place.is_busy()
    with pytest.raises(BusyError, match=str(place.root)), place.lock():
        pass
    with place.lock("sft"):
        pass
    holder.kill()
    holder.wait()
    assert not place.is_busy()
    with place.lock():
        assert WorkDir(place.root).is_busy()
    assert not place.is_busy()


def test_a_lock_is_waited_for(place, hold):
    holder = hold("sft")
    started = time.monotonic()
    with pytest.raises(BusyError), place.lock("sft", wait_s=0.3):
        pass
    assert time.monotonic() - started >= 0.3
    holder.kill()
    with place.lock("sft", wait_s=5):
        pass


def test_a_lock_is_let_go_after_an_error(place):
    with pytest.raises(RuntimeError), place.lock():
        raise RuntimeError
    assert not place.is_busy()
