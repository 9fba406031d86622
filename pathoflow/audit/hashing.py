"""Hashes many files of several stores at once; each is read once, in pieces, and none is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pathoflow.audit.stores import MissingError, Store, UnreachableError


@dataclass(frozen=True)
class StoredFile:
    """A file to hash: where it lies, and what it should be.

    Attributes:
        store: Holds it.
        name: Its path in the store.
        sha256: What its SHA-256 should be, as hex.
        num_bytes: What its size should be.
        md5: What its MD5 should be, where that is asked for, too.
    """

    store: Store
    name: str
    sha256: str
    num_bytes: int
    md5: str | None = None

    @property
    def location(self) -> str:
        """Where it lies, for people."""
        return f"{self.store.root}/{self.name}"


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        num_bytes: The size.
        sha256: As hex; None if the file could not be read.
        md5: As hex, where it was asked for.
        missing: Whether the store said that there is no such file.
        error: Why it could not be read.
    """

    num_bytes: int = 0
    sha256: str | None = None
    md5: str | None = None
    missing: bool = False
    error: str | None = None


def hash_all(
    files: Iterable[StoredFile], *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> dict[tuple[str, str], Found]:
    """Hashes every file once, the large ones first, and returns what was found by store and name.

    Args:
        files: What to read. The same place may come several times.
        workers: Threads; by default one for each core, and no fewer than four where a store is remote.
        progress: Is told of bytes as they are read, from several threads.
    """
    unique: dict[tuple[str, str], StoredFile] = {}
    for file in files:
        known = unique.setdefault((file.store.root, file.name), file)
        if file.md5 and not known.md5:
            unique[file.store.root, file.name] = file
    ordered = sorted(unique.values(), key=lambda file: -file.num_bytes)
    remote = any("://" in file.store.root for file in ordered)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(workers or (max(4, cores) if remote else cores)) as pool:
        found = pool.map(lambda file: _hash(file, progress or (lambda _: None)), ordered)
        return {(file.store.root, file.name): result for file, result in zip(ordered, found, strict=True)}


def _hash(file: StoredFile, progress: Callable[[int], None]) -> Found:
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False) if file.md5 else None
    num_bytes = 0
    try:
        for piece in file.store.chunks(file.name):
            sha256.update(piece)
            if md5:
                md5.update(piece)
            num_bytes += len(piece)
            progress(len(piece))
    except (MissingError, UnreachableError) as error:
        return Found(num_bytes, missing=isinstance(error, MissingError), error=str(error))
    return Found(num_bytes, sha256.hexdigest(), md5.hexdigest() if md5 else None)
