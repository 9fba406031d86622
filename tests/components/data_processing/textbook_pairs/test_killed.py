"""kill -9 at any moment, and the same command again: the sealed output is the one of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.components.data_processing.textbook_pairs.conftest import FILLER, Sheet, tissue

NUM_PAGES = 4


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short pages, one of them with a figure."""
    folder = tmp_path_factory.mktemp("killed") / "book"
    folder.mkdir()
    for number in range(1, NUM_PAGES + 1):
        sheet = Sheet()
        y = sheet.text(160, 180, FILLER)
        if number == 2:
            sheet.picture(180, y + 40, tissue((900, 500), number))
            sheet.text(180, y + 560, f"Fig. {number}.1 Fibroadenoma of the breast.", size=26)
        else:
            sheet.text(160, y + 40, "A lesion of the breast is shown (Fig. 2.1).")
        sheet.image.save(folder / f"page_{number}.png")
    return folder


class Command:
    """The stage's command line on the book, in a work directory of its own."""

    def __init__(self, book: Path, workdir: Path) -> None:
        self.workdir = workdir
        books = f"books=[{book}]"
        arguments = ["--workdir", str(workdir), "--no-versioned", "--set", books, "--set", "use_atlas=false"]
        self.line = [sys.executable, "-m", "components.data_processing.textbook_pairs", *arguments]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self.line, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def identity(self) -> str:
        """The identity of what the command seals when nothing disturbs it."""
        process = self.start()
        printed, _ = process.communicate()
        assert process.returncode == 0
        return printed.split()[1]

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kills the command alone: its workers must go by themselves."""
        process.send_signal(signal.SIGKILL)
        process.wait()

    def num_records(self) -> int:
        return len(list(self.workdir.rglob("pages/*.json")))


def test_pages_that_were_finished_before_a_kill_are_not_read_again(book: Path, tmp_path: Path) -> None:
    whole = Command(book, tmp_path / "whole").identity()
    command = Command(book, tmp_path / "killed")
    process = command.start()
    while command.num_records() < 2:
        assert process.poll() is None
        time.sleep(0.02)
    command.kill(process)
    finished = {path: path.stat().st_mtime_ns for path in command.workdir.rglob("pages/*.json")}
    assert 2 <= len(finished) < NUM_PAGES
    again = command.start()
    while command.num_records() < len(finished) + 1:
        assert again.poll() is None
        time.sleep(0.02)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert again.wait() == 0
    assert again.stdout is not None
    assert again.stdout.read().split()[1] == whole


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments_do_not_show_in_the_output(book: Path, tmp_path: Path, seed: int) -> None:
    started = time.monotonic()
    whole = Command(book, tmp_path / "whole").identity()
    length_s = time.monotonic() - started
    rng = random.Random(seed)
    command = Command(book, tmp_path / "killed")
    for _ in range(10):
        process = command.start()
        try:
            process.wait(rng.uniform(0.0, length_s))
        except subprocess.TimeoutExpired:
            command.kill(process)
    assert command.identity() == whole
    assert not [
        line
        for line in subprocess.check_output(["ps", "-eo", "args"], text=True).splitlines()
        if str(os.fspath(command.workdir)) in line
    ]
