"""Puts the dumps of PostgreSQL into a bucket: `python -m pathoflow.cluster.backup /dumps s3://bucket/prefix`."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pathoflow.errors import InputError, PathoflowError, RegistryError
from pathoflow.stores.objects.bucket import Bucket

CHECKSUMS = "SHA256SUMS"
"""Written last: a backup without it is not complete. `sha256sum --check` reads it."""


def back_up(folder: Path, place: str, now: datetime) -> str:
    """Uploads every `*.dump` of a folder below a new prefix, named for the time, and then their checksums.

    Args:
        folder: Holds the dumps.
        place: `s3://bucket/prefix`; the bucket exists.
        now: Names the backup.

    Returns:
        The URL of the backup.

    Raises:
        InputError: There is no dump, one is empty, or the place is no bucket.
        RegistryError: The object store refused one, or keeps less than was sent.
    """
    dumps = sorted(folder.glob("*.dump"))
    if not dumps:
        raise InputError(f"{folder} holds no *.dump: pg_dump has written nothing.")
    if empty := [dump.name for dump in dumps if not dump.stat().st_size]:
        raise InputError(f"{folder}: {', '.join(empty)} is empty: pg_dump did not end well.")
    target = urlsplit(place)
    if target.scheme != "s3" or not target.netloc:
        raise InputError(f"{place} names no bucket: write s3://bucket/prefix.")
    prefix = f"{target.path.strip('/')}/{now:%Y-%m-%dT%H%M%SZ}".lstrip("/")
    try:
        _upload(dumps, Bucket.from_environment(target.netloc), prefix)
    except RegistryError as error:
        raise RegistryError(
            f"The object store did not take the backup {place}: {error} Does the bucket exist, and may the key write "
            "to it?"
        ) from error
    return f"s3://{target.netloc}/{prefix}"


def _upload(dumps: Sequence[Path], bucket: Bucket, prefix: str) -> None:
    lines = []
    for dump in dumps:
        with dump.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {dump.name}\n")
        key = f"{prefix}/{dump.name}"
        bucket.upload(key, dump)
        kept, sent = bucket.info(key).num_bytes, dump.stat().st_size
        if kept != sent:
            raise RegistryError(f"{bucket.url} keeps {kept} bytes of {key}, and {sent} were sent: back up again.")
    bucket.write(f"{prefix}/{CHECKSUMS}", "".join(lines).encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Backs up, and prints where to; ends the process with the error's code if that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="Holds the dumps.")
    parser.add_argument("place", help="s3://bucket/prefix.")
    options = parser.parse_args(arguments)
    try:
        print(back_up(options.folder, options.place, datetime.now(UTC)))
    except PathoflowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
