"""The images under test: those that the environment names, or fresh ones of the commit that is checked out."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.images.containers import build


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips the test where no Docker engine answers."""
    try:
        answer = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("Docker is not installed")
    if answer.returncode != 0 or "Server Version" not in answer.stdout:
        pytest.skip(f"no Docker engine answers: {(answer.stderr or answer.stdout).strip().splitlines()[-1]}")


@pytest.fixture(scope="session")
def cpu_image(engine, tmp_path_factory) -> str:
    return os.environ.get("PATHOFLOW_TEST_CPU_IMAGE") or build("cpu", tmp_path_factory.mktemp("cpu"))


@pytest.fixture(scope="session")
def train_image(engine, tmp_path_factory) -> str:
    """The train image without CUDA."""
    return os.environ.get("PATHOFLOW_TEST_TRAIN_IMAGE") or build("train", tmp_path_factory.mktemp("train"))


@pytest.fixture
def image(request) -> str:
    """The image of the kind that a test is parametrized with."""
    name: str = request.getfixturevalue(f"{request.param}_image")
    return name
