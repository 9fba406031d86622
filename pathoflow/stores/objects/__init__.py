"""Object stores: where the registry keeps what must outlive any one machine.

A store is a folder or a prefix of an S3 bucket. Objects are small and read as a whole; those that are written once
are written by `put_if_absent`. What each store guarantees stands in docs/adr/0007-decision-log.md.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pathoflow.errors import RegistryError
from pathoflow.stores.objects.local import LocalStore

Check = Callable[[], None]
"""Raises `RegistryError` if a lock was lost in the meantime."""


class ObjectStore(Protocol):
    """Object store of a registry. Keys are relative paths with slashes."""

    @property
    def url(self) -> str:
        """The store's address."""

    @property
    def guarantee(self) -> str:
        """In one sentence, what keeps two writers apart."""

    @property
    def retention(self) -> str:
        """In one sentence, what keeps objects from being removed or replaced."""

    def get(self, key: str) -> bytes | None:
        """Returns the object's content; None if there is no such object."""

    def put(self, key: str, content: bytes) -> None:
        """Writes or replaces an object: readers see the old content or the new."""

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Writes an object that must not exist yet; False if it does, with other content."""

    def list(self, prefix: str) -> list[str]:
        """Returns the keys that begin with `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Removes an object; none of that name is no error."""

    def lock(self, name: str, wait_s: float) -> AbstractContextManager[Check]:
        """Holds the lock of that name; `BusyError` if it was not to be had within `wait_s`."""


def open_store(location: str) -> ObjectStore:
    """Opens the store at a path or at an `s3://bucket/prefix` URL.

    An S3 endpoint and credentials come from the variables that AWS's own tools read.

    Raises:
        RegistryError: The location is of another kind.
    """
    if location.startswith("s3://"):
        from pathoflow.stores.objects.s3 import S3Store

        return S3Store.from_environment(location)
    if "://" in location:
        raise RegistryError(f"{location} is no object store: give a folder or s3://bucket/prefix.")
    return LocalStore(Path(location))


__all__ = ["Check", "LocalStore", "ObjectStore", "open_store"]
