"""A bucket of an S3 store: the one place that talks to S3, with its tries and its errors.

Every answer is checked: what was read has the MD5 that the store names as its ETag, what was written comes back with
the ETag of what was sent. A fault is tried again a few times with growing pauses, then told.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider
from minio.error import MinioException, S3Error
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from pathoflow.errors import RegistryError

Result = TypeVar("Result")

CHUNK_BYTES = 2**20
_TIMEOUT_S = 20.0
_NUM_TRIES = 5
_FIRST_PAUSE_S = 0.2
_ABSENT = ("NoSuchKey", "NoSuchObject")
# Errors that another try does not mend.
_FINAL = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "InvalidBucketName")


class MissingObjectError(Exception):
    """The store answers, and has no such object."""


class _UnexpectedAnswerError(Exception):
    """An answer that cannot be right."""


_FAULTS = (MinioException, urllib3.exceptions.HTTPError, _UnexpectedAnswerError, OSError, ValueError)


class ObjectInfo(NamedTuple):
    """The store's record of an object; `modified_s` in seconds since the epoch, None where the store does not say."""

    key: str
    num_bytes: int
    modified_s: float | None
    etag: str


class Bucket:
    """Access to a bucket.

    Args:
        name: An existing bucket.
        client: Access to the endpoint, without tries of its own.
        endpoint: Its address, for messages.
    """

    def __init__(self, name: str, client: Minio, endpoint: str) -> None:
        self.name, self._client, self._endpoint = name, client, endpoint
        self._http = _pool()

    @classmethod
    def from_environment(cls, name: str) -> Bucket:
        """Opens a bucket, with endpoint and credentials as AWS's own tools find them."""
        return cls(name, *connect())

    @property
    def url(self) -> str:
        """The bucket's address as AWS's tools write it."""
        return f"s3://{self.name}"

    def read(self, key: str) -> bytes:
        """Reads a small object as a whole.

        Raises:
            MissingObjectError: There is no such object.
            RegistryError: The store cannot be asked.
        """

        def content() -> bytes:
            response = self._client.get_object(self.name, key)
            try:
                found = bytes(response.read())
                _compare(response.headers.get("etag", ""), found, key)
                return found
            finally:
                response.close()
                response.release_conn()

        return self._tried(content, f"read {self.url}/{key}")

    def read_part(self, key: str, start: int, length: int) -> bytes:
        """Reads `length` bytes of an object from byte `start` on.

        Raises:
            MissingObjectError: There is no such object.
            RegistryError: The store cannot be asked.
        """

        def content() -> bytes:
            response = self._client.get_object(self.name, key, offset=start, length=length)
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        return self._tried(content, f"read {self.url}/{key}")

    def stream(self, key: str) -> Iterator[bytes]:
        """Yields an object as it comes over the wire; a broken connection is taken up where it broke.

        Raises:
            MissingObjectError: There is no such object.
            RegistryError: The store cannot be asked.
        """
        done = 0
        retrying = _retrying()
        with self._told(f"read {self.url}/{key}", retrying):
            for attempt in retrying:
                with attempt:
                    for piece in self._pieces(key, done):
                        done += len(piece)
                        yield piece

    def _pieces(self, key: str, start: int) -> Iterator[bytes]:
        try:
            response = self._client.get_object(self.name, key, offset=start)
        except S3Error as error:
            if start and error.code == "InvalidRange":
                # The connection broke after the last byte.
                return
            raise
        try:
            yield from response.stream(CHUNK_BYTES)
        finally:
            response.close()
            response.release_conn()

    def write(self, key: str, content: bytes) -> None:
        """Writes or replaces an object.

        Raises:
            RegistryError: The store refuses it, or cannot be asked.
        """

        def put() -> None:
            result = self._client.put_object(self.name, key, io.BytesIO(content), len(content))
            _compare(result.etag or "", content, key)

        self._tried(put, f"write {self.url}/{key}")

    def write_if_absent(self, key: str, content: bytes) -> bool:
        """Writes an object unless it exists, as far as the store honours `If-None-Match`.

        Returns:
            Whether the store took it in its last answer; a try whose answer was lost may have written it, too.

        Raises:
            RegistryError: The store refuses it, or cannot be asked.
        """
        # A bucket with Object Lock takes nothing without a digest.
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        headers = {"If-None-Match": "*", "Content-MD5": digest}

        def put() -> bool:
            # The client sends no such header itself.
            url = self._client.presigned_put_object(self.name, key)
            answer = self._http.request("PUT", url, body=content, headers=headers)
            if answer.status in (409, 412):
                return False
            if answer.status not in (200, 204):
                said = answer.data[:200].decode(errors="replace")
                raise _UnexpectedAnswerError(f"status {answer.status}: {said}")
            _compare(answer.headers.get("etag", ""), content, key)
            return True

        return self._tried(put, f"write {self.url}/{key}")

    def upload(self, key: str, path: Path) -> None:
        """Writes or replaces an object from a file of any size.

        Raises:
            RegistryError: The store refuses it, or cannot be asked.
        """
        self._tried(lambda: self._client.fput_object(self.name, key, str(path)), f"write {self.url}/{key}")

    def info(self, key: str) -> ObjectInfo:
        """Returns the store's record of an object.

        Raises:
            MissingObjectError: There is no such object.
            RegistryError: The store cannot be asked.
        """
        return _info(self._tried(lambda: self._client.stat_object(self.name, key), f"look up {self.url}/{key}"))

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Returns the store's record of every object whose key begins with `prefix`.

        Raises:
            RegistryError: The store cannot be asked.
        """
        return self._tried(
            lambda: [
                _info(item)
                for item in self._client.list_objects(self.name, prefix=prefix, recursive=True)
                if not item.is_dir
            ],
            f"list {self.url}/{prefix}",
        )

    def remove(self, key: str) -> None:
        """Removes an object; none of that name is no error.

        Raises:
            RegistryError: The store refuses it, or cannot be asked.
        """
        try:
            self._tried(lambda: self._client.remove_object(self.name, key), f"remove {self.url}/{key}")
        except MissingObjectError:
            return

    @property
    def retention(self) -> str:
        """In one sentence, what keeps objects from being removed or replaced: Object Lock, if the bucket has it."""
        try:
            found = self._client.get_object_lock_config(self.name)
        except _FAULTS as error:
            if _code_of(error) == "AccessDenied":
                return "what the bucket's Object Lock says, which this account may not ask for"
            found = None
        # A store that does not know the question may answer another one: only a mode and a time are an answer.
        if found is None or found.mode is None or not found.duration:
            return "the rights on the bucket, and nothing else: it has no Object Lock with a default retention"
        return f"the bucket's Object Lock ({found.mode.lower()}, {found.duration} {str(found.duration_unit).lower()})"

    def _tried(self, work: Callable[[], Result], what: str) -> Result:
        retrying = _retrying()
        with self._told(what, retrying):
            return retrying(work)

    @contextmanager
    def _told(self, what: str, retrying: Retrying) -> Iterator[None]:
        """Tells of a fault that stays in words for the user."""
        try:
            yield
        except _FAULTS as error:
            code = _code_of(error)
            if _is_absence(error, code):
                raise MissingObjectError(_short(error)) from error
            num_tries = retrying.statistics.get("attempt_number", 1)
            remedy = "Check the bucket and the credentials" if code in _FINAL else "See to the store, and run again"
            raise RegistryError(
                f"{self._endpoint} could not {what} ({num_tries} tries): {_short(error)}. {remedy}."
            ) from error


def connect() -> tuple[Minio, str]:
    """Returns access to the S3 endpoint that the environment names, and its address."""
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


def _retrying() -> Retrying:
    """Tries again after a fault that may pass, with growing pauses."""
    return Retrying(
        stop=stop_after_attempt(_NUM_TRIES),
        wait=wait_exponential(multiplier=_FIRST_PAUSE_S),
        retry=retry_if_exception(_may_pass),
        reraise=True,
    )


def _may_pass(error: BaseException) -> bool:
    code = _code_of(error)
    return isinstance(error, _FAULTS) and code not in _FINAL and not _is_absence(error, code)


def _is_absence(error: BaseException, code: str) -> bool:
    """Returns whether the store says that there is no such object; without XML, it says so by the status."""
    return code in _ABSENT or (not code and " 404" in str(error))


def _compare(etag: str, content: bytes, key: str) -> None:
    """Compares content with its ETag where that is an MD5, which it is for objects written in one part."""
    etag = etag.strip('"')
    if len(etag) == 32 and etag != hashlib.md5(content, usedforsecurity=False).hexdigest():
        raise _UnexpectedAnswerError(f"the bytes of {key} are not those that the store's own checksum names")


def _code_of(error: BaseException) -> str:
    """Returns S3's code of an error; XML that a server calls by another type gets past the client's own reading."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return error.code or "" if isinstance(error, S3Error) else found[1] if found else ""


def _info(item: Any) -> ObjectInfo:
    modified_s = item.last_modified.timestamp() if item.last_modified else None
    return ObjectInfo(str(item.object_name), int(item.size or 0), modified_s, str(item.etag or ""))


def _pool() -> urllib3.PoolManager:
    # Tries are counted in one place, `_retrying`.
    return urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=_TIMEOUT_S), retries=False)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".replace("\n", " ")[:300].rstrip(" .")
