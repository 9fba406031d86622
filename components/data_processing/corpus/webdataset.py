"""Writes the corpus as WebDataset: tar files of key.jpg, key.json and key.txt, as open_clip reads them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.data_processing.corpus.survey import image_extension

_IN_JSON = ("pair_id", "source", "source_id", "language", "width", "height", "inline_refs", "image_sha256", "phash")


class TarWriter:
    """Writes pairs to `<directory>/<prefix>-00000.tar`, …; the bytes depend on the pairs alone.

    Keys are numbers: WebDataset takes a key to end at its first dot, and ids may hold any character.

    Args:
        directory: Where the tar files go.
        prefix: Begins their names.
        num_samples: Samples in a tar file.
    """

    def __init__(self, directory: Path, prefix: str, num_samples: int) -> None:
        self.directory = directory
        self.prefix = prefix
        self.num_samples = num_samples
        self.num_written = 0
        self._tar: tarfile.TarFile | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def write_table(self, table: pa.Table) -> None:
        """Appends pairs of the corpus's schema."""
        for batch in table.to_batches(max_chunksize=256):
            for row in batch.to_pylist():
                self._write(row)

    def close(self) -> None:
        """Closes the last tar file."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, row: dict[str, Any]) -> None:
        number, place = divmod(self.num_written, self.num_samples)
        if place == 0:
            self.close()
            path = self.directory / f"{self.prefix}-{number:05d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  # closed by close()
        key = f"{number:05d}{place:07d}"
        data: bytes = row["image"]["bytes"]
        facts = {name: row[name] for name in _IN_JSON}
        self._add(f"{key}.{image_extension(data)}", data)
        self._add(f"{key}.json", json.dumps(facts, ensure_ascii=False, sort_keys=True).encode())
        self._add(f"{key}.txt", row["caption"].encode())
        self.num_written += 1

    def _add(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        # A bare header: no time, no owner.
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))
