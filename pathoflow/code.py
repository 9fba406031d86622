"""Which code is running: the repository's commit and the digest of one stage's files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from pathoflow.config import StageConfig
from pathoflow.sealing import Code

REPOSITORY = Path(__file__).resolve().parent.parent
"""Where `components/`, `pipelines/` and `recipes/` lie; relative paths in configurations start here."""


def stage_package(config: type[StageConfig]) -> str:
    """The package of a stage, from its configuration's module.

    >>> class C(StageConfig): stage = "x"
    >>> C.__module__ = "components.training.sft.config"
    >>> stage_package(C)
    'components.training.sft'
    """
    return config.__module__.rpartition(".")[0]


def code_of(config: type[StageConfig]) -> Code:
    """The commit and state of the repository, and the digest of the Python files that the stage is made of.

    These are the stage's own and those of the packages that its configuration lists as `libraries`.

    In an image, where no git repository lies, the commit comes from `PATHOFLOW_CODE_COMMIT`.
    """
    own = Path(sys.modules[config.__module__].__file__ or "").parent
    digest = hashlib.sha256()
    for folder in (own, *(REPOSITORY / "pathoflow" / name for name in config.libraries)):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    commit, dirty = _repository_state()
    return Code(commit=commit, dirty=dirty, digest=f"sha256:{digest.hexdigest()}")


def _repository_state() -> tuple[str | None, bool | None]:
    if commit := os.environ.get("PATHOFLOW_CODE_COMMIT"):
        return commit, False
    commit = _git("rev-parse", "--verify", "HEAD")
    if not commit:
        return None, None
    return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
