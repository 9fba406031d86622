"""Hashes many files of several stores at once; each is read once, in pieces, and none is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pathoflow.governance.audit.stores import MissingError, Store, UnreachableError

_REMOTE_WORKERS = 4


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
        """The file's place, in words."""
        return f"{self.store.root}/{self.name}"


@dataclass(frozen=True)
class Found:
    """Result of reading a file.

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


class Hasher:
    """Hashes files in the background while others are still being listed; each place is read once.

    Args:
        workers: Threads; by default one for each core, and no fewer than four where the first store is remote.
        progress: Is told of bytes as they are read, from several threads.
    """

    def __init__(self, workers: int | None = None, progress: Callable[[int], None] | None = None) -> None:
        self._workers, self._progress = workers, progress or (lambda _: None)
        self._pool: ThreadPoolExecutor | None = None
        self._found: dict[tuple[str, str], Future[Found]] = {}

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, files: Iterable[StoredFile]) -> None:
        """Begins with these files, the large ones first."""
        for file in sorted(files, key=lambda file: -file.num_bytes):
            if self._pool is None:
                cores = os.cpu_count() or 1
                remote = "://" in file.store.root
                self._pool = ThreadPoolExecutor(self._workers or (max(_REMOTE_WORKERS, cores) if remote else cores))
            if (file.store.root, file.name) not in self._found:
                self._found[file.store.root, file.name] = self._pool.submit(_hash, file, self._progress)

    def found(self) -> dict[tuple[str, str], Found]:
        """Waits for every file and returns what was found by store and name."""
        return {place: future.result() for place, future in self._found.items()}


def hash_all(files: Iterable[StoredFile]) -> dict[tuple[str, str], Found]:
    """Hashes every file once and returns what was found by store and name."""
    with Hasher() as hasher:
        hasher.add(files)
        return hasher.found()


def _hash(file: StoredFile, progress: Callable[[int], None]) -> Found:
    """Reads a file; from a remote store a second time, if it is not what it should be: the way may have spoilt it."""
    found = _read(file, progress)
    is_wrong = found.sha256 is not None and (found.sha256, found.num_bytes) != (file.sha256, file.num_bytes)
    return _read(file, progress) if is_wrong and "://" in file.store.root else found


def _read(file: StoredFile, progress: Callable[[int], None]) -> Found:
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
