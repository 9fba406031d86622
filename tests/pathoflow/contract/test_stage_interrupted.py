"""Whatever ends a stage's process, the same command finishes the job: kill -9, SIGTERM, a full disk, a second run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.sealing import verify
from pathoflow.contract.stage import execute
from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import Preempted
from tests.support.toy.config import ToyConfig

NUM_STEPS = 4


class Toy:
    """The toy stage's command line on one work directory, with a journal of what it did."""

    def __init__(self, recipe: Path, workdir: WorkDir, *settings: str) -> None:
        self.workdir = workdir
        self.journal = recipe.parent / f"{workdir.root.name}.journal"
        values = [f"num_steps={NUM_STEPS}", f"journal={self.journal}", *settings]
        self._command = [
            sys.executable,
            "-m",
            "tests.support.toy",
            "--recipe",
            str(recipe),
            "--workdir",
            str(workdir.root),
        ]
        self._command += [part for value in values for part in ("--set", value)]

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *more], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *more: str) -> tuple[int, str]:
        """The exit code and what was printed as errors."""
        process = self.start(*more)
        _, errors = process.communicate(timeout=120)
        return process.returncode, errors

    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def wait_for(self, line: str, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 60
        while line not in self.lines():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, f"{line} did not come"
            time.sleep(0.01)

    def check_finished(self) -> None:
        """The output is whole, no finished step was done twice, and MLflow has no run that goes on."""
        manifest = verify(self.workdir.output("toy"))
        assert self.workdir.read_state("toy").identity == manifest.identity
        lines = self.lines()
        for step in range(NUM_STEPS):
            assert f"begin {step}" not in lines[lines.index(f"end {step}") :], lines
        client = MlflowClient(self.workdir.tracking_uri)
        runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
        assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}
        [latest, *_] = [run for run in runs if run.info.status == "FINISHED"]
        assert latest.data.tags["pathoflow.identity"] == manifest.identity
        assert not list((self.workdir.state / "staging").iterdir())
        assert not any((self.workdir.state / "scratch").iterdir())
        assert not list(self.workdir.dvc.glob("workspace-*/"))


@pytest.fixture
def toy(toy_recipe, workdir) -> Toy:
    return Toy(toy_recipe, workdir, "step_s=0.25")


def _kill_and_finish(toy: Toy, seed: int, *more: str) -> None:
    """Kills the stage at a random moment of its start, its steps, or its sealing and publication, and runs it again."""
    process = toy.start(*more)
    if line := (None, "begin 0", f"end {NUM_STEPS - 1}")[seed % 3]:
        toy.wait_for(line, process)
    delay_s = random.Random(seed).uniform(0, 1.5)
    print(f"killed {delay_s:.2f} s after {line or 'the start'}")
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    exit_code, errors = toy.run(*more)
    assert exit_code == 0, errors
    toy.check_finished()


@pytest.mark.parametrize("seed", range(3))
def test_a_stage_killed_at_any_moment_is_finished_by_the_same_command(toy, seed):
    _kill_and_finish(toy, seed, "--no-versioned")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_a_stage_killed_at_any_of_many_moments_is_finished_by_the_same_command(toy, seed):
    _kill_and_finish(toy, seed)


def test_a_stage_that_is_told_to_stop_says_that_it_can_be_resumed(toy):
    process = toy.start("--no-versioned")
    toy.wait_for("begin 1", process)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "Run the same command again to continue." in errors
    assert "Traceback" not in errors
    state = toy.workdir.read_state("toy")
    assert (state.status, state.exit_code) == ("stopped", 75)
    client = MlflowClient(toy.workdir.tracking_uri)
    assert client.get_run(state.mlflow_run_id).info.status == "KILLED"
    assert toy.run("--no-versioned")[0] == 0
    toy.check_finished()
    assert toy.lines().count("begin 0") == 1


@pytest.mark.races
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_not_taken_for_a_bad_record(workdir, services, signal_number):
    config = ToyConfig(num_items=20, item_s=0.2, max_quarantine_share=1)
    handler = signal.getsignal(signal_number)
    stop = threading.Timer(0.7, os.kill, (os.getpid(), signal_number))
    stop.start()
    with pytest.raises(Preempted):
        execute(config, {}, workdir, services)
    stop.join()
    assert workdir.read_state("toy").exit_code == 75
    assert not workdir.output("toy").exists()
    assert signal.getsignal(signal_number) == handler


@pytest.mark.races
def test_a_second_process_in_a_stage_is_turned_away_and_does_no_harm(toy_recipe, workdir):
    toy = Toy(toy_recipe, workdir, "step_s=30")
    first = toy.start("--no-versioned")
    toy.wait_for("begin 0", first)
    exit_code, errors = toy.run("--no-versioned")
    assert exit_code == 6
    assert f"Another run works in {workdir.root}" in errors
    assert (workdir.read_state("toy").status, workdir.read_state("toy").pid) == ("running", first.pid)
    first.kill()
    first.communicate()
    assert toy.lines() == ["run", "begin 0"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MiB that can be made larger, as a user does who frees space."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system takes root")
    if (failed := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no small file system can be mounted here: {failed.stderr.strip()}")
    grow = ["mount", "-o", "remount,size=64m", str(place)]
    yield place, lambda: subprocess.run(grow, check=True)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _on(disk: Path, empty_store: Path) -> WorkDir:
    workdir = WorkDir(disk / "work")
    workdir.create()
    workdir.mlflow.mkdir()
    shutil.copyfile(empty_store, workdir.mlflow / "mlflow.db")
    return workdir


def test_a_full_disk_is_told_and_the_work_goes_on_after_space_is_freed(
    small_disk, toy_recipe, empty_store, clean_environment
):
    disk, free_space = small_disk
    toy = Toy(toy_recipe, _on(disk, empty_store), "big_bytes=20000000")
    exit_code, errors = toy.run("--no-versioned")
    assert exit_code == 7
    assert "error: The disk is full: toy could not write" in errors
    assert "Free some space and run the same command again." in errors
    assert not toy.workdir.output("toy").exists()
    free_space()
    exit_code, errors = toy.run("--no-versioned")
    assert exit_code == 0, errors
    toy.check_finished()
    assert toy.lines().count("begin 0") == 1


@pytest.mark.parametrize("free_bytes", [200_000, *(pytest.param(size, marks=pytest.mark.slow) for size in (0, 20_000))])
def test_a_disk_that_is_full_for_mlflow_or_the_state_is_told(
    small_disk, toy_recipe, empty_store, clean_environment, free_bytes
):
    disk, free_space = small_disk
    toy = Toy(toy_recipe, _on(disk, empty_store), "num_points=3000")
    _fill(disk, free_bytes)
    exit_code, errors = toy.run("--no-versioned")
    print(errors)
    assert exit_code == 7
    assert "error: The disk is full" in errors
    free_space()
    exit_code, errors = toy.run("--no-versioned")
    assert exit_code == 0, errors
    toy.check_finished()
    run_id = toy.workdir.read_state("toy").mlflow_run_id
    points = MlflowClient(toy.workdir.tracking_uri).get_metric_history(run_id, "loss")
    assert {point.step for point in points} == set(range(3000))


def _fill(disk: Path, free_bytes: int) -> None:
    available: Callable[[], int] = lambda: shutil.disk_usage(disk).free  # noqa: E731
    with (disk / "ballast").open("wb") as file:
        file.write(bytes(available() - free_bytes))
