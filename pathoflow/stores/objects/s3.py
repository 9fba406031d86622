"""A prefix of an S3 bucket as an object store."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider
from minio.error import MinioException, S3Error

from pathoflow.errors import RegistryError
from pathoflow.stores.objects.leases import lease

Result = TypeVar("Result")

_TIMEOUT_S = 20.0
_NUM_TRIES = 5
_FIRST_PAUSE_S = 0.2
_ABSENT = ("NoSuchKey", "NoSuchObject")
# Errors that another try does not mend.
_FINAL = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "InvalidBucketName")


def connect() -> tuple[Minio, str]:
    """Access to the S3 endpoint that the environment names, and its address."""
    variables = ("AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL")
    found = next((os.environ[name] for name in variables if os.environ.get(name)), "https://s3.amazonaws.com")
    endpoint = urlsplit(found if "://" in found else f"https://{found}")
    client = Minio(
        endpoint.netloc,
        credentials=ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()]),
        secure=endpoint.scheme == "https",
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        http_client=_pool(),
    )
    return client, endpoint.geturl()


class S3Store:
    """Objects below a prefix of a bucket.

    Every answer is checked: what was read has the MD5 that the store names as its ETag, what was written comes back
    with the ETag of what was sent. A fault is tried again a few times with growing pauses, then told.

    Args:
        client: Access to the endpoint.
        endpoint: Its address, for messages.
        bucket: An existing bucket.
        prefix: Empty, or ends with a slash.
    """

    def __init__(self, client: Minio, endpoint: str, bucket: str, prefix: str) -> None:
        self._client, self._endpoint, self._bucket, self._prefix = client, endpoint, bucket, prefix
        self._http = _pool()

    @classmethod
    def from_environment(cls, url: str) -> S3Store:
        """The store at `s3://bucket/prefix`, with endpoint and credentials as AWS's tools find them.

        Raises:
            RegistryError: The URL names no bucket.
        """
        parts = urlsplit(url)
        if not parts.netloc:
            raise RegistryError(f"{url} names no bucket: write s3://bucket/prefix.")
        client, endpoint = connect()
        prefix = parts.path.strip("/")
        return cls(client, endpoint, parts.netloc, f"{prefix}/" if prefix else "")

    @property
    def url(self) -> str:
        """Bucket and prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def guarantee(self) -> str:
        """What keeps two writers apart."""
        if self._writes_conditionally:
            return "tickets with leases, and conditional creation of log entries by the store (If-None-Match)"
        return "tickets with leases alone: this store ignores If-None-Match"

    @property
    def retention(self) -> str:
        """What keeps objects from being removed or replaced: the bucket's Object Lock, if it has one."""
        try:
            found = self._client.get_object_lock_config(self._bucket)
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if _code_of(error) == "AccessDenied":
                return "what the bucket's Object Lock says, which this account may not ask for"
            found = None
        # A store that does not know the question may answer another one: only a mode and a time are an answer.
        if found is None or found.mode is None or not found.duration:
            return "the rights on the bucket, and nothing else: it has no Object Lock with a default retention"
        return f"the bucket's Object Lock ({found.mode.lower()}, {found.duration} {str(found.duration_unit).lower()})"

    def get(self, key: str) -> bytes | None:
        """The object's content; None if there is no such object."""

        def read() -> bytes | None:
            try:
                response = self._client.get_object(self._bucket, self._prefix + key)
            except MinioException as error:
                if _code_of(error) in _ABSENT:
                    return None
                raise
            try:
                content = bytes(response.read())
                _compare(response.headers.get("etag", ""), content, key)
                return content
            finally:
                response.close()
                response.release_conn()

        return self._tried(read, f"read {key}")

    def put(self, key: str, content: bytes) -> None:
        """Writes or replaces an object."""

        def write() -> None:
            result = self._client.put_object(self._bucket, self._prefix + key, io.BytesIO(content), len(content))
            _compare(result.etag or "", content, key)

        self._tried(write, f"write {key}")

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Writes an object that must not exist yet; False if it does, with other content.

        A store without conditional writes is asked first: there, only the lock keeps writers apart.
        """
        if self._writes_conditionally:
            self._tried(lambda: self._put_conditionally(key, content), f"write {key}")
        elif self.get(key) is None:
            self.put(key, content)
        # A try whose answer was lost may have written: the content decides, which no other writer has.
        return self.get(key) == content

    def list(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted."""

        def listed() -> list[str]:
            found = self._client.list_objects(self._bucket, self._prefix + prefix, recursive=True)
            return sorted(item.object_name.removeprefix(self._prefix) for item in found)

        return self._tried(listed, f"list {prefix}")

    def delete(self, key: str) -> None:
        """Removes an object; none of that name is no error."""

        def remove() -> None:
            try:
                self._client.remove_object(self._bucket, self._prefix + key)
            except MinioException as error:
                if _code_of(error) not in _ABSENT:
                    raise

        self._tried(remove, f"remove {key}")

    def lock(self, name: str, wait_s: float) -> AbstractContextManager[Callable[[], None]]:
        """Holds the lock of that name by a ticket with a lease."""
        return self._lock(name, wait_s)

    @contextmanager
    def _lock(self, name: str, wait_s: float) -> Iterator[Callable[[], None]]:
        with lease(self, f"locks/{name}/", wait_s) as check:
            yield check

    @cached_property
    def _writes_conditionally(self) -> bool:
        """Whether the store refuses a second object of one name when it is asked to: tried out once per process."""
        key = f"probes/{uuid.uuid4().hex}"
        try:
            self._tried(lambda: self._put_conditionally(key, b"first"), "write a probe")
            return not self._tried(lambda: self._put_conditionally(key, b"second"), "write a probe")
        finally:
            self.delete(key)

    def _put_conditionally(self, key: str, content: bytes) -> bool:
        """Writes an object unless it exists; whether the store took it."""
        url = self._client.presigned_put_object(self._bucket, self._prefix + key)
        # A bucket with Object Lock takes nothing without a digest.
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        headers = {"If-None-Match": "*", "Content-MD5": digest}
        answer = self._http.request("PUT", url, body=content, headers=headers)
        if answer.status in (409, 412):
            return False
        if answer.status not in (200, 204):
            raise _Unexpected(f"status {answer.status}: {answer.data[:200].decode(errors='replace')}")
        _compare(answer.headers.get("etag", ""), content, key)
        return True

    def _tried(self, work: Callable[[], Result], what: str) -> Result:
        """Does something with the store, again after a fault.

        Raises:
            RegistryError: It failed every time, or for a reason that stays.
        """
        pause_s = _FIRST_PAUSE_S
        for number in range(1, _NUM_TRIES + 1):
            try:
                return work()
            except (MinioException, urllib3.exceptions.HTTPError, _Unexpected, OSError, ValueError) as error:
                code = _code_of(error)
                if number == _NUM_TRIES or code in _FINAL:
                    remedy = (
                        "Check the bucket and the credentials" if code in _FINAL else "See to the store, and run again"
                    )
                    raise RegistryError(
                        f"{self._endpoint} could not {what} in {self.url} ({number} tries): {_short(error)}. {remedy}."
                    ) from error
                time.sleep(pause_s)
                pause_s *= 2
        raise AssertionError


class _Unexpected(Exception):
    """An answer that cannot be right."""


def _compare(etag: str, content: bytes, key: str) -> None:
    """Compares content with its ETag where that is an MD5, which it is for objects written in one part."""
    etag = etag.strip('"')
    if len(etag) == 32 and etag != hashlib.md5(content, usedforsecurity=False).hexdigest():
        raise _Unexpected(f"the bytes of {key} are not those that the store's own checksum names")


def _code_of(error: BaseException) -> str:
    """S3's code of an error; servers that call their XML by another type get past the client's own reading of it."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return error.code or "" if isinstance(error, S3Error) else found[1] if found else ""


def _pool() -> Any:
    timeout = urllib3.Timeout(connect=5, read=_TIMEOUT_S)
    # Tries are counted in one place, `_tried`.
    return urllib3.PoolManager(timeout=timeout, retries=False)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".replace("\n", " ")[:300].rstrip(" .")
