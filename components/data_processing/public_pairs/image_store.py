"""Reads images by the names that a table gives them, from a folder or a zip file and nowhere else."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from pathoflow.data.image_io import UnreadableImage
from pathoflow.errors import InputError


class ImageStore(Protocol):
    """A place with named images."""

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Reads the bytes of one image.

        Raises:
            UnreadableImage: It is missing, outside the store, larger than `max_bytes`, or cannot be unpacked.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_store(location: Path) -> ImageStore:
    """Opens a folder or a zip file of images.

    Raises:
        InputError: It is neither.
    """
    if location.is_dir():
        return FolderStore(location)
    if not location.is_file():
        raise InputError(
            f"{location} does not exist. Set `images` in public_pairs.sources to a folder or zip file of images."
        )
    try:
        return ZipStore(location)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{location} is neither a folder nor a readable zip file: {error}") from error


class FolderStore:
    """Images below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """See `ImageStore.read`; links that lead out of the folder are not followed."""
        path = (self.folder / _relative_path(name)).resolve()
        if not path.is_relative_to(self.folder):
            raise UnreadableImage("path_outside_folder", f"{name} leads to {path}, outside {self.folder}")
        try:
            num_bytes = path.stat().st_size
            if not path.is_file():
                raise UnreadableImage("missing_file", f"{path} is not a file")
            _check_size(num_bytes, max_bytes)
            return path.read_bytes()
        except OSError as error:
            raise UnreadableImage("missing_file", f"{path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open."""


class ZipStore:
    """Images in a zip file, by their full name in it, or by their last part where no other has the same.

    Nothing is ever unpacked to the disk; entries that are links, or whose names lead out of the archive, are not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive = zipfile.ZipFile(path)
        entries = [entry for entry in self.archive.infolist() if not entry.is_dir()]
        self._by_name = _index_by_name((PurePosixPath(entry.filename).name, entry) for entry in entries)
        self._by_name |= _index_by_name((str(PurePosixPath(entry.filename)), entry) for entry in entries)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """See `ImageStore.read`; the unpacked size is limited, whatever the entry's header says."""
        entry = self._by_name.get(str(_relative_path(name)))
        if entry is None:
            raise UnreadableImage("missing_file", f"{self.path} holds no (or more than one) {name}")
        _relative_path(entry.filename)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UnreadableImage("path_outside_folder", f"{entry.filename} in {self.path} is a link")
        _check_size(entry.file_size, max_bytes)
        try:
            with self.archive.open(entry) as file:
                data = file.read(max_bytes + 1)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            NotImplementedError,
            OSError,
        ) as error:
            # RuntimeError: encrypted; NotImplementedError: a compression that Python lacks.
            raise UnreadableImage("corrupt_image", f"{entry.filename} in {self.path}: {error}") from error
        _check_size(len(data), max_bytes)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.archive.close()


def _index_by_name(named: Iterable[tuple[str, zipfile.ZipInfo]]) -> dict[str, zipfile.ZipInfo | None]:
    """Indexes entries by name; None where a name stands for different contents."""
    found: dict[str, zipfile.ZipInfo | None] = {}
    for name, entry in named:
        before = found.setdefault(name, entry)
        if before is not entry and (before is None or (before.CRC, before.file_size) != (entry.CRC, entry.file_size)):
            found[name] = None
    return found


def _relative_path(name: str) -> PurePosixPath:
    """Returns a table's image path as a relative path that does not climb.

    >>> str(_relative_path("./a/b.jpg"))
    'a/b.jpg'
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or path == PurePosixPath("."):
        raise UnreadableImage("path_outside_folder", f"{name!r} is no path below the image folder")
    return path


def _check_size(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise UnreadableImage("file_too_large", f"{num_bytes} bytes, at most {max_bytes} are read")
