"""A folder as an object store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from pathoflow.errors import BusyError, RegistryError
from pathoflow.system.files import sync_directory, sync_file, write_atomically

_LOCKS = ".locks"


class LocalStore:
    """Objects as files below `root`; a hard link makes an object appear whole and at most once."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @property
    def url(self) -> str:
        """The folder."""
        return str(self.root)

    @property
    def guarantee(self) -> str:
        """In one sentence, what keeps two writers apart."""
        return "a lock of the operating system, which ends with its process, and exclusive creation of log entries"

    @property
    def retention(self) -> str:
        """In one sentence, what keeps objects from being removed or replaced."""
        return "the rights on the folder, and nothing else; a change shows in the chain"

    def get(self, key: str) -> bytes | None:
        """Returns the object's content; None if there is no such object."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RegistryError(f"{self._path(key)} cannot be read: {error.strerror}.") from error

    def put(self, key: str, content: bytes) -> None:
        """Writes or replaces an object."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Writes an object that must not exist yet; False if it does, with other content."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(content)
            sync_file(temporary)
            os.link(temporary, path)
        except FileExistsError:
            return path.read_bytes() == content
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)
        return True

    def list(self, prefix: str) -> list[str]:
        """Returns the keys that begin with `prefix`, sorted."""
        start = self.root / prefix.rpartition("/")[0]
        found = (path for path in start.rglob("*") if path.is_file() and not path.name.startswith("."))
        keys = (path.relative_to(self.root).as_posix() for path in found)
        return sorted(key for key in keys if key.startswith(prefix) and not key.startswith(_LOCKS))

    def delete(self, key: str) -> None:
        """Removes an object; none of that name is no error."""
        path = self._path(key)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_directory(path.parent)

    @contextmanager
    def lock(self, name: str, wait_s: float) -> Iterator[Callable[[], None]]:
        """Holds the lock of that name; the kernel lets go of it when the process dies.

        Raises:
            BusyError: Another process holds it.
        """
        path = self.root / _LOCKS / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=wait_s, poll_interval=0.02)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(
                f"Another command has held {name} of the registry in {self.root} for {wait_s:g} s. Wait for it, and "
                "run this command again."
            ) from error
        try:
            yield lambda: None
        finally:
            lock.release()

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts:
            raise RegistryError(f"{key!r} is no key of an object store.")
        return self.root.joinpath(*parts)
