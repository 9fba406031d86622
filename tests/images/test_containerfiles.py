"""What the images are built from is sound: linted, pinned by digest, and of one base."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pathoflow.contract.code import REPOSITORY

IMAGES = REPOSITORY / "images"
CONTAINERFILES = sorted(IMAGES.glob("*/Containerfile"))
SCRIPTS = [
    IMAGES / "build",
    IMAGES / "shared" / "triton-cc",
    *sorted(IMAGES.glob("shared/*.sh")),
    *(REPOSITORY / ".ci").iterdir(),
]


def test_there_are_three() -> None:
    assert [path.parent.name for path in CONTAINERFILES] == ["cpu", "rl", "train"]


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path) -> None:
    checked(Path(sys.executable).with_name("hadolint"), path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path) -> None:
    checked(Path(sys.executable).with_name("shellcheck"), "--exclude=SC1091", path)


def test_every_base_is_one_and_is_pinned_by_digest() -> None:
    bases = set()
    for path in CONTAINERFILES:
        text = path.read_text()
        bases |= set(re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE))
        assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"${BASE}", "packages"}
    [base] = bases
    assert re.fullmatch(r"[a-z0-9./-]+:[\w.-]+@sha256:[0-9a-f]{64}", base)


def checked(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
