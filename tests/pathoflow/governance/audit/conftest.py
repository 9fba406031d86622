"""A registered version with a whole lineage, made once and copied for each test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from pathoflow.contract.workdir import WorkDir
from pathoflow.governance.audit import AuditReport, Places, audit
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.trust import check_trust
from tests.support.lineage.registered import MODEL, commit_of, make_books, make_repository, run_pipeline


@dataclass
class Case:
    """A work directory of its own, with a registered version, and what an auditor has beside it."""

    workdir: WorkDir
    books: Path
    repository: Path

    def places(self) -> Places:
        return Places.of_workdir(self.workdir.root, sources=self.books, repository=self.repository)

    def audit(self, asked: str = MODEL, *, with_registry: bool = True, **options) -> AuditReport:
        check = partial(check_trust, partial(Registry.of_workdir, self.workdir.root)) if with_registry else None
        return audit(asked, self.places(), check_trust=check, **options)


@pytest.fixture(scope="session")
def original(tmp_path_factory, empty_store) -> Case:
    root = tmp_path_factory.mktemp("registered")
    workdir = WorkDir(root / "work")
    workdir.create()
    workdir.mlflow.mkdir()
    shutil.copyfile(empty_store, workdir.mlflow / "mlflow.db")
    case = Case(workdir, make_books(root), make_repository(root))
    run_pipeline(workdir, case.books, commit_of(case.repository))
    return case


@pytest.fixture
def case(original, tmp_path, clean_environment) -> Case:
    """A copy at another place, whose recorded paths lead to where the original lies."""
    shutil.copytree(original.workdir.root, tmp_path / "work")
    books = shutil.copytree(original.books, tmp_path / "books")
    return Case(WorkDir(tmp_path / "work"), books, original.repository)
