"""Identifies the running code: the repository's commit and the digest of a stage's files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from pathoflow.contract.config import StageConfig
from pathoflow.contract.imports import imported_files
from pathoflow.contract.sealing import Code

REPOSITORY = Path(__file__).resolve().parents[2]
"""Root of `components/`, `pipelines/` and `recipes/`; relative paths in configurations start here."""

_FACES = frozenset({"component.py", "__main__.py"})
"""Files of a stage that only call it: what they import computes nothing."""


def stage_package(config: type[StageConfig]) -> str:
    """Returns a stage's package, from its configuration's module.

    >>> class C(StageConfig): stage = "x"
    >>> C.__module__ = "components.training.sft.config"
    >>> stage_package(C)
    'components.training.sft'
    """
    return config.__module__.rpartition(".")[0]


def code_of(config: type[StageConfig]) -> Code:
    """Returns the commit and state of the repository, and the digest of the Python files that the stage is made of.

    In an image, where no git repository lies, the commit comes from `PATHOFLOW_CODE_COMMIT`.
    """
    folder = Path(sys.modules[config.__module__].__file__ or "").parent
    package = stage_package(config).split(".")
    roots = list(dict.fromkeys((folder.parents[len(package) - 1], REPOSITORY)))

    def find(path: str) -> bytes | None:
        for root in roots:
            if (root / path).is_file():
                return (root / path).read_bytes()
        return None

    own = [path.relative_to(roots[0]).as_posix() for path in folder.rglob("*.py")]
    commit, dirty = _repository_state()
    return Code(commit=commit, dirty=dirty, digest=code_digest(own, find))


def code_digest(own: Collection[str], find: Callable[[str], bytes | None]) -> str:
    """Hashes a stage's own files and every file of the repository that they import, directly or through others.

    Args:
        own: The Python files of the stage's folder, relative to the repository.
        find: The content of a file of the repository; None if it is not there.
    """
    followed = imported_files([path for path in own if path.rpartition("/")[2] not in _FACES], find)
    digest = hashlib.sha256()
    for path in sorted(followed.union(own)):
        digest.update(path.encode() + b"\0" + (find(path) or b"") + b"\0")
    return f"sha256:{digest.hexdigest()}"


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
