"""`make images` up to the engine: what it hands over, and what it says where it cannot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pathoflow.contract.code import REPOSITORY

# Stands in for an engine: keeps what it is given, for the files of a build are gone when it ends.
ENGINE = """#!/bin/sh
echo "$@" >>{kept}/commands
case $1 in
build)
    for argument; do
        case $argument in
        id=*) cp "${{argument#*src=}}" "{kept}/secret-$(echo "$argument" | sed 's/id=\\([a-z]*\\).*/\\1/')" ;;
        esac
        context=$argument
    done
    cp -r "$context" {kept}/context ;;
create) echo container ;;
cp) touch "$3" ;;
image) echo 1500000000 ;;
esac
"""


@pytest.fixture
def repository(tmp_path) -> Path:
    """A clone with the build script as it lies here, and one change that is not committed."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--shared", str(REPOSITORY), str(clone)], check=True)
    (clone / "images" / "build").write_bytes((REPOSITORY / "images" / "build").read_bytes())
    (clone / "pyproject.toml").open("a").write("# not committed\n")
    return clone


@pytest.fixture
def engine(tmp_path) -> Path:
    program = tmp_path / "engine" / "engine"
    program.parent.mkdir()
    program.write_text(ENGINE.format(kept=program.parent))
    program.chmod(0o755)
    return program


def build(repository: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {
        **kept,
        "OUT": str(repository.parent / "out"),
        **{name: str(value) for name, value in settings.items()},
    }
    return subprocess.run(
        [str(repository / "images" / "build")], env=environment, capture_output=True, text=True, check=False
    )


def test_it_builds_the_commit_and_says_that_changes_are_left_out(repository, engine) -> None:
    done = build(repository, ENGINE=engine, IMAGES="cpu", TAG="t", REGISTRY="registry.example.org/team")
    assert done.returncode == 0, done.stderr
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert f"your uncommitted changes are not in the images: they are built from commit {commit[:12]}" in done.stderr
    assert "# not committed" not in (engine.parent / "context" / "pyproject.toml").read_text()
    commands = (engine.parent / "commands").read_text()
    assert f"--build-arg COMMIT={commit.strip()}" in commands
    assert "--tag registry.example.org/team/pathoflow-cpu:t" in commands
    assert "1.50 GB unpacked" in done.stdout
    assert "parameters.yaml of your overlay" in done.stdout


def test_how_pip_reaches_its_index_stays_a_secret(repository, engine, tmp_path) -> None:
    (tmp_path / "ca.pem").write_text("certificate\n")
    index = "https://user:a-password@mirror.example.org/simple"
    done = build(
        repository, ENGINE=engine, IMAGES="cpu", PIP_INDEX_URL=index, PIP_TRUSTED_HOST="m", CA=tmp_path / "ca.pem"
    )
    assert done.returncode == 0, done.stderr
    assert (engine.parent / "secret-pip").read_text() == f"[global]\nindex-url = {index}\ntrusted-host = m\n"
    assert (engine.parent / "secret-ca").read_text() == "certificate\n"
    assert "a-password" not in (engine.parent / "commands").read_text() + done.stdout + done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ENGINE": "no-such-engine"}, "no-such-engine is not installed"),
        ({"ENGINE": "false"}, "no engine answers `false info`"),
        ({"IMAGES": "gpu"}, "there is no image gpu. Known images: cpu train rl."),
        ({"CA": "/nowhere.pem"}, "CA: /nowhere.pem cannot be read"),
        ({"PIP_CONFIG": "/nowhere.conf"}, "PIP_CONFIG: /nowhere.conf cannot be read"),
        ({"REVISION": "no-such-commit"}, "there is no commit no-such-commit here"),
        ({"PUSH": "1"}, "PUSH needs REGISTRY"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_built(repository, engine, settings, message) -> None:
    done = build(repository, **{"ENGINE": engine, "IMAGES": "cpu", **settings})
    assert done.returncode == 1
    assert message in done.stderr
    assert "build" not in ((engine.parent / "commands").read_text() if (engine.parent / "commands").exists() else "")
