"""A recipe that divides its stages: the loops run in kfp.local, and the outputs are those of undivided stages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pathoflow.contract.recipe import RECIPES
from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import read_manifest, verify
from pathoflow.contract.workdir import WorkDir
from tests.support.small import SMALL

SETTINGS = {"public_pairs": ["chunk_rows=50", "num_workers=1"], "textbook_pairs": ["num_workers=1"]}
PATHOFLOW = str(Path(sys.executable).with_name("pathoflow"))


def command(*arguments: str) -> str:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PATHOFLOW_CODE_COMMIT": "0" * 40}
    done = subprocess.run(list(arguments), capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A work directory with a small sealed atlas."""
    workdir = WorkDir(tmp_path_factory.mktemp("atlas") / "work")
    workdir.create()
    workdir.mlflow.mkdir()
    shutil.copyfile(empty_store, workdir.mlflow / "mlflow.db")
    settings = [part for value in SMALL if value.startswith("teaching_atlas.") for part in ("--set", value)]
    stage = [sys.executable, "-m", "components.data_processing.teaching_atlas", "--recipe", "smoke"]
    command(*stage, "--workdir", str(workdir.root), *settings)
    return workdir.root


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """The smoke recipe with two shards for each stage that can be divided."""
    recipe = tmp_path / "divided"
    shutil.copytree(RECIPES / "smoke", recipe)
    for stage in ("textbook_pairs", "public_pairs"):
        with (recipe / f"{stage}.yaml").open("a") as file:
            file.write("\ncompute: {shards: 2}\n")
    return recipe


@pytest.mark.parametrize("stage", ["public_pairs", pytest.param("textbook_pairs", marks=pytest.mark.slow)])
def test_a_divided_stage_seals_what_the_undivided_one_does(atlas, divided, tmp_path, stage):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for workdir in (whole, parts):
        shutil.copytree(atlas, workdir)
    settings = [part for value in SETTINGS[stage] for part in ("--set", f"{stage}.{value}")]
    undivided = [sys.executable, "-m", f"components.data_processing.{stage}", "--recipe", "smoke", "--no-versioned"]
    command(*undivided, "--workdir", str(whole), *settings)
    run = [PATHOFLOW, "run", "--recipe", str(divided), "--workdir", str(parts), *settings]
    printed = command(*run, "--only", stage)
    manifest = verify(parts / stage)
    assert manifest.identity == read_manifest(whole / stage).identity
    names = [f"{stage}.shard-1-of-2", f"{stage}.shard-2-of-2"]
    sealed = [verify(parts / name) for name in names]
    assert sum(part.counts.num_in for part in sealed) == manifest.counts.num_in
    shown = command(PATHOFLOW, "status", str(parts))
    for name in names:
        assert f"{name}: done" in printed
        assert f"✔ {name} " in " ".join(shown.split())
        # Published by reference, as every output is.
        reference = Reference.model_validate_json(WorkDir(parts).reference(name).read_bytes())
        assert reference.dvc_md5
