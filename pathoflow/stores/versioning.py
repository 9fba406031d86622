"""Data versions in DVC: added and pushed from a private workspace, pulled by digest.

Each stage has a workspace of its own, since DVC locks a workspace and several stages may publish at once.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from filelock import FileLock

from pathoflow.errors import SealError

if TYPE_CHECKING:
    from dvc.repo import Repo


class DvcStore:
    """A DVC cache and remote.

    Args:
        root: Holds the cache, and the workspaces while they live.
        remote: URL of the remote (a folder, `s3://…`).
    """

    def __init__(self, root: Path, remote: str) -> None:
        self.root = root
        self.remote = remote

    def push(self, directory: Path, name: str) -> str:
        """Adds a copy of `directory` under `name` and pushes it to the remote.

        The cache never shares an inode with the directory, so that damage to one cannot reach the other.

        Returns:
            DVC's digest of the directory, `<md5>.dir`.
        """
        with self._workspace(name) as repo:
            copy = Path(repo.root_dir) / name
            command = ["cp", "-r", "--reflink=auto", str(directory), str(copy)]
            copied = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
            if copied.returncode != 0:
                raise OSError(copied.stderr.strip())
            # The copy goes with the workspace: it need not be linked to the cache, which would write it once more.
            [stage] = repo.add([str(copy)], relink=False)
            repo.push()
            return str(stage.outs[0].hash_info.value)

    def pull(self, name: str, md5: str, target: Path) -> None:
        """Fetches the directory with DVC digest `md5` from the remote and moves it to `target`.

        Raises:
            SealError: The remote lacks a part of it, or holds other bytes.
        """
        from dvc.exceptions import DvcException

        with self._workspace(name) as repo:
            pointer = {"outs": [{"md5": md5, "hash": "md5", "path": name}]}
            (Path(repo.root_dir) / f"{name}.dvc").write_text(yaml.safe_dump(pointer))
            try:
                repo.pull()
            except DvcException as error:
                raise SealError(
                    f"The data of {name} ({md5}) cannot be fetched from {self.remote}: a part is missing there or "
                    f"was changed. Mend the remote, or run {name} again."
                ) from error
            target.parent.mkdir(parents=True, exist_ok=True)
            (Path(repo.root_dir) / name).rename(target)

    @contextmanager
    def _workspace(self, name: str) -> Iterator[Repo]:
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.WARNING)
        self.root.mkdir(parents=True, exist_ok=True)
        workspace = self.root / f"workspace-{name}"
        # Handed over in memory: DVC cannot write a path that is not ASCII to its configuration file.
        config = {
            "core": {
                "no_scm": True,
                "remote": "store",
                "analytics": False,
                # DVC's own indices, which would stay in the system's temporary folder.
                "site_cache_dir": str(workspace / ".dvc" / "site"),
            },
            "cache": {"dir": str(self.root / "cache"), "type": "reflink,copy"},
            "remote": {"store": {"url": self.remote, "verify": True}},
        }
        with FileLock(f"{workspace}.lock"):
            # A killed process left its own behind.
            shutil.rmtree(workspace, ignore_errors=True)
            # With the configuration handed over, this is all that makes a folder DVC's; `Repo.init` opens it twice.
            (workspace / ".dvc").mkdir(parents=True)
            try:
                with Repo(str(workspace), config=config) as repo:
                    yield repo
            finally:
                shutil.rmtree(workspace, ignore_errors=True)
