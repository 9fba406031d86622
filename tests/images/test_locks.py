"""What each image installs, as it stands in the repository: no engine is needed."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pathoflow.contract.code import REPOSITORY
from tools.image_locks import IMAGES, LOCKS, read_lock

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def lock_of(image: str) -> dict[str, str]:
    return {
        canonicalize_name(name): version for name, version in read_lock(IMAGES / image / "requirements.txt").items()
    }


def pinned_versions() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


@pytest.mark.parametrize("image", ["cpu", "train"])
def test_the_versions_are_those_that_were_tested_together(image) -> None:
    pins = pinned_versions()
    assert {name: version for name, version in lock_of(image).items() if pins.get(name, version) != version} == {}


@pytest.mark.parametrize("image", ["cpu", "train", "rl"])
def test_everything_that_the_extras_ask_for_is_there(image) -> None:
    """Fails when a requirement was added and `make image-locks` was forgotten."""
    wanted = list(PROJECT["dependencies"])
    for extra in LOCKS[image].extras:
        wanted += PROJECT["optional-dependencies"][extra]
    lock = lock_of(image)
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.specifier.contains(lock[canonicalize_name(requirement.name)]), line


@pytest.mark.parametrize("image", list(LOCKS))
def test_every_package_has_hashes(image) -> None:
    lines = (IMAGES / image / "requirements.txt").read_text().splitlines()[1:]
    assert lines
    assert [line for line in lines if " --hash=sha256:" not in line] == []


def test_only_the_headless_opencv_is_installed_and_pytorch_only_where_it_is_used() -> None:
    cpu = lock_of("cpu")
    assert "opencv-python-headless" in cpu
    assert "opencv-python" not in cpu
    assert "torch" not in cpu
