"""Which code made an output."""

from __future__ import annotations

import importlib
import subprocess

import pytest

from pathoflow import code
from pathoflow.code import code_of, stage_package
from tests.toy.config import ToyConfig


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A stage in a folder of its own; returns the folder and its configuration class."""
    folder = tmp_path / "lone_stage"
    folder.mkdir()
    (folder / "config.py").write_text(
        "from pathoflow.config import StageConfig\n\n\nclass LoneConfig(StageConfig):\n    stage = 'lone'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder, importlib.import_module("lone_stage.config").LoneConfig
    monkeypatch.delitem(__import__("sys").modules, "lone_stage.config")


def test_the_digest_follows_every_python_file_of_the_stage_and_nothing_else(stage):
    folder, config = stage
    digests = [code_of(config).digest]
    (folder / "rewards").mkdir()
    (folder / "rewards" / "format.py").write_text("x = 1\n")
    digests.append(code_of(config).digest)
    (folder / "rewards" / "format.py").write_text("x = 2\n")
    digests.append(code_of(config).digest)
    (folder / "rewards" / "format.py").rename(folder / "rewards" / "shape.py")
    digests.append(code_of(config).digest)
    assert len(set(digests)) == 4
    (folder / "README.md").write_text("generated")
    assert code_of(config).digest == digests[-1]


def test_the_digest_follows_the_libraries_that_the_stage_names(stage, monkeypatch, tmp_path):
    _, config = stage
    library = tmp_path / "pathoflow" / "modeling" / "tiny.py"
    library.parent.mkdir(parents=True)
    library.write_text("x = 1\n")
    monkeypatch.setattr(code, "REPOSITORY", tmp_path)
    alone = code_of(config).digest
    config.libraries = ("modeling",)
    with_library = code_of(config).digest
    library.write_text("x = 2\n")
    assert len({alone, with_library, code_of(config).digest}) == 3


def test_the_commit_comes_from_git_or_from_the_image(stage, monkeypatch, tmp_path):
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    monkeypatch.delenv("PATHOFLOW_CODE_COMMIT", raising=False)
    monkeypatch.setattr(code, "REPOSITORY", tmp_path)
    _, config = stage
    assert (code_of(config).commit, code_of(config).dirty) == (None, None)
    git("init", "-q")
    git("add", "lone_stage/config.py")
    git("commit", "-q", "-m", "first")
    clean = code_of(config)
    assert (len(clean.commit), clean.dirty) == (40, False)
    (tmp_path / "lone_stage" / "config.py").write_text("")
    assert code_of(config).dirty is True
    monkeypatch.setenv("PATHOFLOW_CODE_COMMIT", "fedc")
    assert (code_of(config).commit, code_of(config).dirty) == ("fedc", False)


def test_a_stages_package_is_that_of_its_configuration():
    assert stage_package(ToyConfig) == "tests.toy"
