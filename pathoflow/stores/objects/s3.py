"""A prefix of an S3 bucket as an object store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from pathoflow.errors import RegistryError
from pathoflow.stores.objects.bucket import Bucket, MissingObjectError
from pathoflow.stores.objects.leases import lease


class S3Store:
    """Objects below a prefix of a bucket.

    Args:
        bucket: The bucket.
        prefix: Empty, or ends with a slash.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix

    @classmethod
    def from_environment(cls, url: str) -> S3Store:
        """Opens the store at `s3://bucket/prefix`, with endpoint and credentials as AWS's tools find them.

        Raises:
            RegistryError: The URL names no bucket.
        """
        parts = urlsplit(url)
        if not parts.netloc:
            raise RegistryError(f"{url} names no bucket: write s3://bucket/prefix.")
        prefix = parts.path.strip("/")
        return cls(Bucket.from_environment(parts.netloc), f"{prefix}/" if prefix else "")

    @property
    def url(self) -> str:
        """Bucket and prefix."""
        return f"s3://{self._bucket.name}/{self._prefix}".rstrip("/")

    @property
    def guarantee(self) -> str:
        """In one sentence, what keeps two writers apart; a store's `If-None-Match` is tried out with a probe."""
        key = f"{self._prefix}probes/{uuid.uuid4().hex}"
        try:
            self._bucket.write_if_absent(key, b"first")
            if not self._bucket.write_if_absent(key, b"second"):
                return "tickets with leases, and conditional creation of log entries by the store (If-None-Match)"
            return "tickets with leases alone: this store ignores If-None-Match"
        finally:
            self._bucket.remove(key)

    @property
    def retention(self) -> str:
        """In one sentence, what keeps objects from being removed or replaced."""
        return self._bucket.retention

    def get(self, key: str) -> bytes | None:
        """Returns the object's content; None if there is no such object."""
        try:
            return self._bucket.read(self._prefix + key)
        except MissingObjectError:
            return None

    def put(self, key: str, content: bytes) -> None:
        """Writes or replaces an object."""
        self._bucket.write(self._prefix + key, content)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Writes an object that must not exist yet; False if it does, with other content.

        A look comes first, since not every store honours the condition: there, only the lock keeps writers apart.
        """
        if (found := self.get(key)) is not None:
            return found == content
        self._bucket.write_if_absent(self._prefix + key, content)
        # A try whose answer was lost may have written: the content decides, which no other writer has.
        return self.get(key) == content

    def list(self, prefix: str) -> list[str]:
        """Returns the keys that begin with `prefix`, sorted."""
        return sorted(found.key.removeprefix(self._prefix) for found in self._bucket.list(self._prefix + prefix))

    def delete(self, key: str) -> None:
        """Removes an object; none of that name is no error."""
        self._bucket.remove(self._prefix + key)

    def lock(self, name: str, wait_s: float) -> AbstractContextManager[Callable[[], None]]:
        """Holds the lock of that name by a ticket with a lease."""
        return lease(self, f"locks/{name}/", wait_s)
