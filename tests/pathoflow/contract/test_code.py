"""Which code made an output."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components import catalogue
from pathoflow.contract import code
from pathoflow.contract.code import code_of, stage_package
from tests.support.toy.config import ToyConfig


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A stage in a folder of its own; returns the folder and its configuration class."""
    folder = tmp_path / "lone_stage"
    folder.mkdir()
    (folder / "config.py").write_text(
        "from pathoflow.contract.config import StageConfig\n\n\nclass LoneConfig(StageConfig):\n    stage = 'lone'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder, importlib.import_module("lone_stage.config").LoneConfig
    for name in ("lone_stage", "lone_stage.config"):
        sys.modules.pop(name, None)


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


def test_the_digest_follows_what_the_stage_imports_directly_or_through_others(stage, monkeypatch, tmp_path):
    folder, config = stage
    library = tmp_path / "pathoflow" / "modeling" / "tiny_model.py"
    library.parent.mkdir(parents=True)
    for package in (library.parents[1], library.parent):
        (package / "__init__.py").write_text("")
    library.write_text("def f():\n    from pathoflow import shape\n")
    (tmp_path / "pathoflow" / "shape.py").write_text("x = 1\n")
    monkeypatch.setattr(code, "REPOSITORY", tmp_path)
    digests = [code_of(config).digest]
    (folder / "component.py").write_text("from pathoflow.modeling import tiny_model\n")
    digests.append(code_of(config).digest)
    (tmp_path / "pathoflow" / "shape.py").write_text("x = 2\n")
    assert code_of(config).digest == digests[-1], "what only a face imports computes nothing"
    (folder / "stage.py").write_text("from pathoflow.modeling.tiny_model import f\n")
    digests.append(code_of(config).digest)
    (tmp_path / "pathoflow" / "shape.py").write_text("x = 3\n")
    digests.append(code_of(config).digest)
    (tmp_path / "pathoflow" / "other.py").write_text("x = 3\n")
    assert len({*digests, code_of(config).digest}) == len(digests) == 4


@pytest.mark.parametrize("stage", ["sft", "reasoning_data", "vqa_benchmarks"])
def test_a_changed_prompt_changes_the_code_of_the_stages_that_use_it(stage, monkeypatch, tmp_path):
    config = catalogue()[stage]
    before = code_of(config).digest
    for folder in ("pathoflow", "components"):
        shutil.copytree(code.REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    own = Path(sys.modules[config.__module__].__file__)
    monkeypatch.setattr(sys.modules[config.__module__], "__file__", str(tmp_path / own.relative_to(code.REPOSITORY)))
    monkeypatch.setattr(code, "REPOSITORY", tmp_path)
    assert code_of(config).digest == before
    prompts = tmp_path / "pathoflow" / "qa" / "prompts.py"
    prompts.write_text(prompts.read_text().replace("think", "ponder"))
    assert code_of(config).digest != before


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
    assert stage_package(ToyConfig) == "tests.support.toy"
