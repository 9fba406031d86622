"""Checks an output's provenance: its configuration, its code, its image and the files from outside."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from pathoflow.contract.code import code_digest
from pathoflow.contract.config import ExternalFolder, digest_of
from pathoflow.contract.sealing import Manifest, SealedFile, describe_folder
from pathoflow.contract.sharding import stage_of
from pathoflow.errors import InputError
from pathoflow.governance.audit.links import Links
from pathoflow.system.files import sha256_of_file

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_END_BYTES = 256 * 1024
"""How much of each end is hashed where a stage reads slides, whose folder's listing says so in no other way."""
_IMAGE = re.compile(r"(?:.+@)?sha256:[0-9a-f]{64}")


class History:
    """The git repository of the code, asked about recorded commits.

    Args:
        folder: A clone that has them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = cache(self._files)
        self.has = cache(self._has)
        self.code_digests = cache(self._code_digests)

    def _has(self, commit: str) -> bool:
        """Returns whether the commit is there."""
        return _git(self.folder, "cat-file", "-e", f"{commit}^{{commit}}") is not None

    def _files(self, commit: str) -> tuple[str, ...]:
        listing = _git(self.folder, "ls-tree", "-r", "-z", "--name-only", commit) or b""
        return tuple(name for name in listing.decode(errors="surrogateescape").split("\0") if name)

    def contents(self, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
        """Returns the content of files at a commit, by path; those that are not there are left out."""
        asked = [path for path in paths if "\n" not in path]
        questions = "".join(f"{commit}:{path}\n" for path in asked).encode(errors="surrogateescape")
        answer = io.BytesIO(_git(self.folder, "cat-file", "--batch", stdin=questions) or b"")
        found: dict[str, bytes] = {}
        for path in asked:
            kind, _, size = answer.readline().decode(errors="replace").strip().rpartition(" ")
            if kind.endswith(" blob"):
                found[path] = answer.read(int(size))
                answer.read(1)
        return found

    def _code_digests(self, commit: str, stage: str) -> list[str]:
        """Returns the code digest at a commit of each package that is called like the stage."""
        configs = [path for path in self.files(commit) if PurePosixPath(path).parts[-2:] == (stage, "config.py")]
        return [self._code_digest(commit, PurePosixPath(path).parent) for path in configs]

    def _code_digest(self, commit: str, folder: PurePosixPath) -> str:
        inside = frozenset(path for path in self.files(commit) if path.endswith(".py"))
        known = self.contents(commit, [path for path in inside if path.startswith(("pathoflow/", f"{folder}/"))])

        def find(path: str) -> bytes | None:
            if path in inside and path not in known:
                known.update(self.contents(commit, [path]))
            return known.get(path)

        return code_digest([path for path in inside if PurePosixPath(path).is_relative_to(folder)], find)


def check_configuration(manifest: Manifest, links: Links) -> None:
    """Checks that the configuration in the manifest has the digest that stands beside it."""
    links.equal(
        "configuration",
        manifest.config_digest,
        digest_of(manifest.config),
        "manifest.json, config_digest",
        told_by="the configuration",
    )


def check_code(manifest: Manifest, history: History, links: Links) -> None:
    """Checks that the recorded commit is known, holds the code that ran, and nothing was changed on top of it."""
    commit, where = manifest.code.commit, f"commit {manifest.code.commit}"
    if not commit:
        links.unknown("code", "no commit is recorded: the stage ran outside of a repository", "manifest.json")
    elif not _COMMIT.fullmatch(commit):
        links.failed("code", "is no commit of git", where)
    elif not history.has(commit):
        links.unknown("code", f"is not in {history.folder}; fetch it", where)
    elif manifest.code.dirty is not False:
        links.unknown("code", "changes that were not committed were on top of it: what ran is not recorded", where)
    else:
        found = history.code_digests(commit, stage_of(manifest.stage))
        if not found:
            links.unknown("code", f"has no stage {manifest.stage}", where)
        elif manifest.code.digest in found:
            links.passed("code", "holds the code that ran", where)
        else:
            links.failed("code", f"holds code with {found[0]}, but {manifest.code.digest} ran", where)


def check_image(manifest: Manifest, kfp_run_id: str | None, links: Links) -> None:
    """Checks that a run on a cluster says which image it ran in."""
    image = manifest.image_digest
    if image and _IMAGE.fullmatch(image):
        links.passed("image", f"{image} (recorded; an audit pulls no image)", "manifest.json, image_digest")
    elif image:
        links.failed("image", f"{image} is no digest", "manifest.json, image_digest")
    elif kfp_run_id in (None, "local"):
        links.passed("image", "none: a local run", "manifest.json, image_digest")
    else:
        links.unknown("image", "is not recorded", "manifest.json, image_digest")


def check_sources(manifest: Manifest, history: History, folder: Path | None, links: Links) -> None:
    """Hashes the files and folders from outside that the stage read.

    A relative path is one of the repository's own files, which the recorded commit has.

    Args:
        manifest: Lists them.
        history: The repository.
        folder: Where to look by name for what is not at its recorded path.
        links: Gets what was found.
    """
    for file in manifest.external_files:
        commit = manifest.code.commit
        if not Path(file.path).is_absolute() and commit and history.has(commit):
            _check_committed(file, commit, history, links)
        else:
            _check_source(file, folder, links)


def _check_committed(file: SealedFile, commit: str, history: History, links: Links) -> None:
    where = f"{file.path} at commit {commit}"
    content = history.contents(commit, [file.path]).get(file.path)
    if content is None:
        links.unknown("source", "the commit has no such file", where)
    else:
        found = hashlib.sha256(content).hexdigest()
        links.equal("source", found, file.sha256, where, told_by="the manifest")


def _check_source(file: SealedFile, folder: Path | None, links: Links) -> None:
    recorded = Path(file.path)
    candidates = [recorded] + ([folder / recorded.name] if folder else [])
    path = next((candidate for candidate in candidates if candidate.exists()), None)
    if path is None:
        links.unknown("source", "is not on this machine; name the folder that holds it with --sources", file.path)
        return
    try:
        if not file.path.endswith("/"):
            found, how = sha256_of_file(path), ""
        else:
            found, how = describe_folder(ExternalFolder(path, _END_BYTES)).sha256, " (large files by their ends)"
            if found != file.sha256:
                found, how = describe_folder(ExternalFolder(path)).sha256, ""
    except (OSError, InputError) as error:
        links.unknown("source", f"cannot be read: {error}", str(path))
        return
    if found == file.sha256:
        links.passed("source", f"{found}{how}", str(path), file.bytes)
    else:
        links.failed("source", f"has SHA-256 {found}, but the stage read {file.sha256}", str(path), file.bytes)


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], input=stdin, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
