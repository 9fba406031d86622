"""Makes a work directory with a registered version whose lineage is whole: sealed, published and tracked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from components.deployment.register.config import RegisterConfig
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.config import StageConfig
from pathoflow.contract.stage import Services, execute
from pathoflow.contract.workdir import WorkDir
from tests.support.lineage.corpus.config import CorpusConfig
from tests.support.lineage.pathoclip.config import PathoclipConfig
from tests.support.lineage.rl.config import RlConfig
from tests.support.lineage.textbook_pairs.config import TextbookPairsConfig
from tests.support.lineage.vqa_benchmarks.config import VqaBenchmarksConfig

MODEL = "toy.dev"
BOOKS = {"atlas": "lipoma\nmelanoma\nnaevus\nhaemangioma\nschwannoma\n", "primer": "adenoma\npolyp\nsarcoma\n"}


def make_books(root: Path) -> Path:
    """Writes the books that everything begins with and returns their folder."""
    folder = root / "books"
    folder.mkdir(parents=True)
    for name, text in BOOKS.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def make_repository(root: Path) -> Path:
    """A git repository with the stand-ins' code at its only commit."""
    folder = root / "repository"
    for name in ("components", "pathoflow", "tests/support/lineage"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "tests/support"):
        shutil.copy(REPOSITORY / name / "__init__.py", folder / name)
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "All"]):
        subprocess.run([*git, *command], check=True)
    return folder


def commit_of(repository: Path) -> str:
    """The commit that stages record."""
    command = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run_pipeline(
    workdir: WorkDir, books: Path, commit: str, *, environment: Mapping[str, str] | None = None, **values: dict
) -> None:
    """Runs every stage in this process, as `execute` does for the pipeline, the register stage last.

    Args:
        workdir: With an MLflow store.
        books: The sources.
        commit: What the stages record as their code.
        environment: Services other than those below the work directory.
        values: Values of the stages' configurations, by stage.
    """
    paths = tuple(sorted(books.iterdir()))
    configs: list[StageConfig] = [
        TextbookPairsConfig(books=paths, **values.get("textbook_pairs", {})),
        CorpusConfig(**values.get("corpus", {})),
        PathoclipConfig(**values.get("pathoclip", {})),
        RlConfig(**values.get("rl", {})),
        VqaBenchmarksConfig(**values.get("vqa_benchmarks", {})),
        RegisterConfig(model_name="toy", **{"signing": "throwaway"} | values.get("register", {})),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATHOFLOW_CODE_COMMIT", commit)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "PATHOFLOW_DVC_REMOTE"):
            # Set first, so that what the stages set is taken back.
            patch.setenv(name, "")
            patch.delenv(name)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        services = Services.from_environment(workdir)
        for config in configs:
            execute(config, {name: workdir.output(name) for name in config.inputs}, workdir, services)
