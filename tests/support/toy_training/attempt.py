"""Attempts at the toy training in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from pathoflow.training.curves import read_series

ROOT = str(Path(__file__).parents[3])
VALUES = {"num_processes": 2, "max_steps": 40, "delay_s": 0.005, "checkpoint_grace_s": 20}


class Attempt:
    """One attempt at the toy training in processes of its own."""

    def __init__(self, where: Path, **values) -> None:
        self.where = where
        where.mkdir(exist_ok=True)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
        self.log = (where / "log").open("a+")
        self.stage = subprocess.Popen(
            [sys.executable, "-m", "tests.support.toy_training", str(where), json.dumps(VALUES | values)],
            env=environment,
            cwd=ROOT,
            stderr=self.log,
        )

    @property
    def checkpoints(self) -> Path:
        return self.where / "scratch" / "checkpoints"

    def wait_for(self, path: str) -> None:
        deadline = time.monotonic() + 180
        while not (self.where / "scratch" / path).exists():
            assert self.stage.poll() is None, f"ended with {self.stage.returncode}: {self.words()}"
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def processes(self) -> list[psutil.Process]:
        """The agent, the training processes and those that load their data."""
        return psutil.Process(self.stage.pid).children(recursive=True)

    def rank(self, number: int) -> int:
        return int((self.where / "scratch" / f"started-{number}").read_text())

    def end(self, timeout_s: float = 180) -> int:
        return self.stage.wait(timeout=timeout_s)

    def words(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def forget_start(self) -> None:
        for path in (self.where / "scratch").glob("started-*"):
            path.unlink()


def outcome(where: Path) -> tuple[bytes, dict]:
    """What a finished attempt leaves: the model's bytes and the losses."""
    series = read_series(where / "scratch" / "report")
    return (where / "output" / "model.safetensors").read_bytes(), series["loss"]
