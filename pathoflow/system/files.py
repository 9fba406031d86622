"""Writes files so that a crash leaves either the old content or the new, and hashes them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def sha256_of_file(path: Path, end_bytes: int | None = None) -> str:
    """Returns a file's SHA-256 as hex, read in constant memory; with `end_bytes`, of that much at each end alone."""
    with path.open("rb") as file:
        if end_bytes is None or path.stat().st_size <= 2 * end_bytes:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(file.read(end_bytes))
        file.seek(-end_bytes, os.SEEK_END)
        digest.update(file.read(end_bytes))
        return digest.hexdigest()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replaces `path` by `content` in one step that survives a crash.

    The bytes go to a temporary file beside `path`, reach the disk, and take its name.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable (renames and new files included)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Makes a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Makes every file and name below `root` durable."""
    for directory, _, names in os.walk(root):
        for name in names:
            sync_file(Path(directory, name))
        sync_directory(Path(directory))
