"""Reading from wherever outputs are stored: file by file, in pieces, with nothing kept."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

from pathoflow.errors import RegistryError, SealError
from pathoflow.stores.objects.bucket import CHUNK_BYTES, Bucket, MissingObjectError, ObjectInfo

Answer = TypeVar("Answer")


class Entry(NamedTuple):
    """A stored file as a listing has it; `modified_s` in seconds since the epoch."""

    name: str
    num_bytes: int
    modified_s: float


class MissingError(Exception):
    """The store answers, and what was asked for is not there."""


class UnreachableError(Exception):
    """The store does not answer, or not as it should."""


class Store(Protocol):
    """A folder of files in a file system, a bucket or behind MLflow's server."""

    root: str

    def names(self) -> set[str]:
        """Returns every file below the root, as relative paths.

        Raises:
            UnreachableError: The store cannot be asked.
        """

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Returns the content of one file in pieces; each is valid until the next.

        Raises:
            MissingError: There is no such file.
            UnreachableError: The store cannot be asked.
        """

    def state(self, name: str) -> tuple[int | str, ...]:
        """Returns what changes when a file is written, without reading it; empty where the store does not say.

        Raises:
            MissingError: There is no such file.
            UnreachableError: The store cannot be asked.
        """


class FolderStore:
    """Files on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.root = str(root)

    def names(self) -> set[str]:
        """Returns every file below the root, links included."""
        return {
            path.relative_to(self._root).as_posix()
            for path in self._root.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }

    def entries(self) -> Iterator[Entry]:
        """Yields every regular file below the root."""
        for path in sorted(self._root.rglob("*")):
            if path.is_file():
                state = path.stat()
                yield Entry(path.relative_to(self._root).as_posix(), state.st_size, state.st_mtime)

    def state(self, name: str) -> tuple[int | str, ...]:
        """Returns size, time of the last change, and number of the file itself."""
        try:
            found = (self._root / name).stat()
        except OSError as error:
            raise MissingError(str(error)) from error
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def remove(self, name: str) -> None:
        """Removes one file."""
        (self._root / name).unlink(missing_ok=True)

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Yields the content of one file through one buffer."""
        buffer = bytearray(CHUNK_BYTES)
        view = memoryview(buffer)
        try:
            with (self._root / name).open("rb", buffering=0) as file:
                while size := file.readinto(buffer):
                    yield view[:size]
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingError(str(error)) from error
        except OSError as error:
            raise UnreachableError(str(error)) from error


class BucketStore:
    """Objects below a prefix of an S3 bucket."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self.root = uri.rstrip("/")
        self._prefix = unquote(parts.path).strip("/")
        self._bucket = Bucket.from_environment(parts.netloc)

    def names(self) -> set[str]:
        """Returns every object below the prefix."""
        return {entry.name for entry in self.entries()}

    def entries(self) -> Iterator[Entry]:
        """Yields every object below the prefix; one whose time the store does not tell counts as new.

        Raises:
            UnreachableError: The store cannot be asked.
        """
        start = f"{self._prefix}/" if self._prefix else ""
        with _told():
            for found in self._bucket.list(start):
                modified_s = time.time() if found.modified_s is None else found.modified_s
                yield Entry(found.key[len(start) :], found.num_bytes, modified_s)

    def remove(self, name: str) -> None:
        """Removes one object."""
        with _told():
            self._bucket.remove(self._key(name))

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Yields the content of one object as it comes over the wire."""
        with _told():
            yield from self._bucket.stream(self._key(name))

    def state(self, name: str) -> tuple[int | str, ...]:
        """Returns size, time of the last change, and the store's own checksum."""
        found = self._info(name)
        return found.num_bytes, str(found.modified_s), found.etag

    def size(self, name: str) -> int:
        """Returns bytes of one object.

        Raises:
            MissingError: There is no such object.
            UnreachableError: The store cannot be asked.
        """
        return self._info(name).num_bytes

    def part(self, name: str, start: int, length: int) -> bytes:
        """Returns a part of one object.

        Raises:
            MissingError: There is no such object.
            UnreachableError: The store cannot be asked.
        """
        with _told():
            return self._bucket.read_part(self._key(name), start, length)

    def _info(self, name: str) -> ObjectInfo:
        with _told():
            return self._bucket.info(self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


@contextmanager
def _told() -> Iterator[None]:
    """Tells of a bucket's errors in the words that all stores share."""
    try:
        yield
    except MissingObjectError as error:
        raise MissingError(str(error)) from error
    except RegistryError as error:
        raise UnreachableError(str(error)) from error


class ServerStore:
    """Artifacts that MLflow's server hands out."""

    def __init__(self, uri: str, tracking_uri: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self.root = uri.rstrip("/")
        self._repository: Any = get_artifact_repository(self.root, tracking_uri=tracking_uri)

    def names(self) -> set[str]:
        """Returns every artifact below the root."""
        from mlflow.exceptions import MlflowException

        found: set[str] = set()
        folders = [""]
        try:
            while folders:
                for item in self._repository.list_artifacts(folders.pop() or None):
                    if item.is_dir:
                        folders.append(item.path)
                    else:
                        found.add(item.path)
        except (MlflowException, OSError) as error:
            raise UnreachableError(str(error)) from error
        return found

    def state(self, name: str) -> tuple[int | str, ...]:
        """Returns nothing: the server tells of an artifact's path and size only."""
        return ()

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Yields the content of one artifact as the server sends it."""
        from mlflow.exceptions import MlflowException
        from mlflow.utils.rest_utils import http_request

        repository = self._repository
        try:
            with http_request(repository._host_creds, f"/{quote(name)}", "GET", stream=True) as response:
                if response.status_code == 404:
                    raise MissingError(f"{self.root}/{name}")
                response.raise_for_status()
                yield from response.iter_content(CHUNK_BYTES)
        except (MlflowException, OSError) as error:
            raise UnreachableError(str(error)) from error


def open_store(uri: str, tracking_uri: str) -> Store:
    """Opens the store at a folder's path or URI.

    Raises:
        UnreachableError: Nothing here can read from such a place.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        return FolderStore(Path(unquote(parts.path) if parts.scheme else uri))
    if parts.scheme == "s3":
        return BucketStore(uri)
    if parts.scheme in ("mlflow-artifacts", "http", "https"):
        return ServerStore(uri, tracking_uri)
    raise UnreachableError(f"No reader for {parts.scheme}://. Supported: folders, s3, mlflow-artifacts.")


def read(store: Store, name: str, limit_bytes: int = 512 * 2**20) -> bytes:
    """Reads the whole content of a small file: a manifest or a listing.

    Raises:
        MissingError: There is no such file.
        UnreachableError: The store cannot be asked, or the file is too large to be what it should be.
    """
    content = bytearray()
    for piece in store.chunks(name):
        content += piece
        if len(content) > limit_bytes:
            raise UnreachableError(f"{store.root}/{name} exceeds {limit_bytes} bytes, which no such record does.")
    return bytes(content)


def read_sound(store: Store, name: str, parse: Callable[[bytes], Answer]) -> Answer:
    """Reads and parses a small file, a second time where a remote one makes no sense: the way may have spoilt it.

    Args:
        store: Holds it.
        name: Which file.
        parse: Makes sense of the content, or raises `SealError`.

    Raises:
        MissingError: There is no such file.
        UnreachableError: The store cannot be asked.
        SealError: The content is not what it should be.
    """
    try:
        return parse(read(store, name))
    except SealError:
        if "://" not in store.root:
            raise
        return parse(read(store, name))


def random_access(store: Store, name: str) -> BinaryIO:
    """Opens a file of a store for reading from any place, for formats that are read in parts.

    Raises:
        MissingError: There is no such file.
        UnreachableError: The store cannot be asked, or not for parts of a file.
    """
    if isinstance(store, FolderStore):
        try:
            return (Path(store.root) / name).open("rb")
        except FileNotFoundError as error:
            raise MissingError(str(error)) from error
    if isinstance(store, BucketStore):
        return io.BufferedReader(_RemoteFile(store, name), CHUNK_BYTES)
    raise UnreachableError(f"{store.root} cannot be read in parts.")


class _RemoteFile(io.RawIOBase):
    """An object of a bucket, read by ranges."""

    def __init__(self, store: BucketStore, name: str) -> None:
        self._store, self._name = store, name
        self._size, self._position = store.size(name), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        content = self._store.part(self._name, self._position, length)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
