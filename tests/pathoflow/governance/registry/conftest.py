"""A registry with three versions of a model in dev, made once and copied for each test."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pathoflow.contract.workdir import WorkDir
from pathoflow.governance.registry import promotion
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.policy import Gates, load_gates
from pathoflow.governance.signing import KeyFile, PublicKey, TrustedKeys, make_key
from tests.support.lineage.registered import commit_of, make_books, make_repository, run_pipeline

VERSIONS = (
    {"rl": {"num_bytes": 64}, "vqa_benchmarks": {"accuracy": 0.6}},
    {"rl": {"num_bytes": 128}, "vqa_benchmarks": {"accuracy": 0.65}},
    {"rl": {"num_bytes": 256}, "vqa_benchmarks": {"accuracy": 0.7}},
)


@dataclass
class Case:
    """A local registry of its own, with the keys of its people."""

    workdir: WorkDir
    approver: Path
    second_approver: Path
    gates: Gates
    repository: Path

    def registry(self, key: Path | None = None) -> Registry:
        return replace(Registry.of_workdir(self.workdir.root, key), code=self.repository)

    def promote(self, asked: str, stage: str = "staging", **options) -> promotion.Outcome:
        return promotion.promote(self.registry(), asked, stage, self.gates, **options)

    def actions(self) -> list[str]:
        return [entry.action for entry in self.registry().log.entries()]


@pytest.fixture(scope="session")
def original(tmp_path_factory, empty_store) -> Path:
    root = tmp_path_factory.mktemp("registry")
    workdir = WorkDir(root / "work")
    workdir.create()
    workdir.mlflow.mkdir()
    shutil.copyfile(empty_store, workdir.mlflow / "mlflow.db")
    books, repository = make_books(root), make_repository(root)
    for values in VERSIONS:
        run_pipeline(workdir, books, commit_of(repository), **values)
    for name in ("approver", "second_approver"):
        key = make_key(root / f"{name}.key", "ed25519")
        TrustedKeys.add(workdir.root / "keys" / "trusted", "approver", PublicKey(name, key.kind, key.public.pem))
    make_key(root / "stranger.key", "ed25519")
    return root


@pytest.fixture
def case(original, tmp_path, clean_environment, monkeypatch) -> Case:
    """A copy, whose audits find the sources and the code of the original."""
    for name in [name for name in os.environ if name.startswith("PATHOFLOW_") and name != "PATHOFLOW_CODE_COMMIT"]:
        monkeypatch.delenv(name)
    shutil.copytree(original / "work", tmp_path / "work")
    return Case(
        WorkDir(tmp_path / "work"),
        original / "approver.key",
        original / "second_approver.key",
        load_gates("smoke"),
        original / "repository",
    )


@pytest.fixture
def stranger(original) -> KeyFile:
    """A key that nobody trusts."""
    return KeyFile.load(original / "stranger.key")
