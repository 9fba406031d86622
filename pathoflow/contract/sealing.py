"""Seals directories: every stage's output is complete and unchanged, or not an output at all.

A sealed directory holds `manifest.json`, written last, which lists every other file with its SHA-256 and says how
the content came to be. The SHA-256 of the manifest in canonical JSON is the artifact's identity; the file begins with
it, so that damage to the manifest itself shows, too.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pathoflow.contract.config import ExternalFolder, OutputKind, StageConfig, digest_of
from pathoflow.errors import InputError, SealError, StageError
from pathoflow.system.files import sha256_of_file, sync_tree, write_atomically

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SealedFile(_Record):
    """File of a sealed directory, or a file or folder (see `describe_folder`) from outside that a stage read."""

    path: str
    bytes: int
    sha256: str


class Code(_Record):
    """Code that made an output: the repository's commit, and the digest of the stage's own files."""

    commit: str | None
    dirty: bool | None
    digest: str


class Counts(_Record):
    """Records read, written and set aside."""

    num_in: int
    num_out: int
    quarantined: dict[str, int]


class Manifest(_Record):
    """Content and origin of a sealed directory. No wall time is in it: equal work has an equal identity."""

    # The identity in the file is no field; that nothing else is there either is what `read_manifest` makes sure of.
    model_config = ConfigDict(extra="ignore")

    schema_version: int = SCHEMA_VERSION
    stage: str
    kind: OutputKind
    config: dict[str, Any]
    config_digest: str
    code: Code
    image_digest: str | None
    inputs: dict[str, str]
    external_files: tuple[SealedFile, ...]
    files: tuple[SealedFile, ...]
    counts: Counts
    metrics: dict[str, float]
    notes: dict[str, str]

    @property
    def identity(self) -> str:
        """SHA-256 of this manifest in canonical JSON: the artifact's name everywhere."""
        return digest_of(self.model_dump(mode="json"))

    @property
    def text(self) -> str:
        """Returns the content of `manifest.json`."""
        document = {"identity": self.identity, **self.model_dump(mode="json")}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @property
    def key(self) -> str:
        """Key of the work that this output finished."""
        return work_key(self.stage, self.config_digest, self.code.digest, self.inputs, self.external_files)


def work_key(
    stage: str,
    config_digest: str,
    code_digest: str,
    inputs: dict[str, str],
    external_files: tuple[SealedFile, ...],
) -> str:
    """Returns the key of a stage's work: equal keys mean that the work need not be done again.

    The code counts by the stage's own files, not by the repository's commit, so that an edit elsewhere re-runs
    nothing here; the names of external files count, their folders do not.
    """
    external = [[Path(file.path).name, file.sha256] for file in external_files]
    return digest_of([stage, config_digest, code_digest, inputs, external])


def describe_files(paths: list[Path], root: Path | None = None) -> tuple[SealedFile, ...]:
    """Hashes files with a few threads; paths are recorded relative to `root` if given.

    Raises:
        InputError: A file's name cannot be written down as text.
    """

    def describe(path: Path) -> SealedFile:
        name = (path.relative_to(root) if root else path).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"The name of {name!r} is not UTF-8. Rename the file.") from error
        return SealedFile(path=name, bytes=path.stat().st_size, sha256=sha256_of_file(path))

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(describe, paths))


def describe_external(config: StageConfig) -> tuple[SealedFile, ...]:
    """Hashes what a configuration reads from outside the pipeline: its files, then its folders."""
    folders = tuple(describe_folder(folder) for folder in config.external_folders())
    return describe_files(config.external_files()) + folders


def describe_folder(folder: ExternalFolder) -> SealedFile:
    """Describes a whole folder: its name with a slash, the sum of its files' sizes, and a hash of their listing.

    The listing holds every file's name, size and SHA-256, the latter of its two ends alone where `end_bytes` says so.
    """
    digest = hashlib.sha256()
    paths = sorted(path for path in folder.path.rglob("*") if path.is_file())
    num_bytes = 0

    def listed(path: Path) -> tuple[bytes, int, str]:
        name = path.relative_to(folder.path).as_posix().encode(errors="surrogateescape")
        return name, path.stat().st_size, sha256_of_file(path, folder.end_bytes)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for name, size, sha256 in pool.map(listed, paths):
            num_bytes += size
            digest.update(name + f"\0{size}\0{sha256}\0".encode())
    return SealedFile(path=f"{folder.path.as_posix()}/", bytes=num_bytes, sha256=digest.hexdigest())


def content_files(directory: Path) -> list[Path]:
    """Lists everything below a directory but folders and its manifest, sorted by path."""
    return sorted(
        path
        for path in directory.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and path != directory / MANIFEST_FILE
    )


def seal(directory: Path, *, config: StageConfig, stage: str | None = None, **facts: Any) -> Manifest:
    """Makes `directory` durable and writes its manifest last.

    Args:
        directory: The finished content.
        stage: Name of the output, which for a shard's part differs from the stage's.
        config: The stage's configuration.
        facts: The remaining fields of `Manifest`.

    Raises:
        StageError: The stage left a link, a socket or the like, whose content cannot be sealed.
    """
    files = content_files(directory)
    for path in files:
        if path.is_symlink() or not path.is_file():
            raise StageError(f"{config.stage} wrote {path}, which is no regular file. Let it write a copy instead.")
    manifest = Manifest(
        stage=stage or config.stage,
        kind=config.output,
        config=config.resolved(),
        config_digest=config.digest(),
        files=describe_files(files, root=directory),
        **facts,
    )
    sync_tree(directory)
    write_atomically(directory / MANIFEST_FILE, manifest.text)
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of a sealed directory, without verifying the files.

    Raises:
        SealError: There is no manifest, or it is not as it was written.
    """
    path = directory / MANIFEST_FILE
    if not directory.is_dir():
        raise SealError(f"{directory} does not exist. Run the stage that makes it.")
    if not path.is_file():
        raise SealError(f"{directory} is not sealed: it has no {MANIFEST_FILE}. {_remedy(directory)}")
    try:
        return parse_manifest(path.read_bytes())
    except SealError as error:
        raise SealError(f"{path} {error} {_remedy(directory)}") from error


def parse_manifest(content: bytes) -> Manifest:
    """Parses the content of a `manifest.json`.

    Raises:
        SealError: The content is not as it was written.
    """
    try:
        manifest = Manifest.model_validate_json(content)
        intact = manifest.text.encode() == content
    except ValueError as error:
        raise SealError("is damaged: it cannot be read.") from error
    if not intact:
        raise SealError("was changed after the seal.")
    return manifest


def verify(directory: Path) -> Manifest:
    """Hashes every file of a sealed directory again and returns its manifest.

    Raises:
        SealError: Names the first file that is missing, changed, or not in the manifest.
    """
    manifest = read_manifest(directory)
    present = {path.relative_to(directory).as_posix(): path for path in content_files(directory)}
    listed = {file.path: file for file in manifest.files}
    for name in sorted(listed.keys() - present.keys()):
        raise SealError(f"{directory / name} is missing. {_remedy(directory)}")
    for name in sorted(present.keys() - listed.keys()):
        raise SealError(f"{directory / name} was added after the seal. {_remedy(directory)}")
    for found in describe_files(list(present.values()), root=directory):
        expected = listed[found.path]
        if found != expected:
            raise SealError(
                f"{directory / found.path} was changed after the seal: {found.bytes} bytes with SHA-256 "
                f"{found.sha256[:12]}…, sealed as {expected.bytes} bytes with {expected.sha256[:12]}…. "
                f"{_remedy(directory)}"
            )
    return manifest


def _remedy(directory: Path) -> str:
    return f"Restore the file from the remote or a backup, or remove {directory} and run the same command again."
