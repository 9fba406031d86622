"""The Parquet data sets that stages exchange, and how their shards are written and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

REGION = pa.struct(
    [
        ("page", pa.int32()),
        ("x0", pa.float32()),
        ("y0", pa.float32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("page_width", pa.int32()),
        ("page_height", pa.int32()),
    ]
)
"""A box in pixels of the rendered page; pages count from 1."""

PAIRS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("image", IMAGE),
        ("caption", pa.string()),
        ("inline_refs", pa.list_(pa.string())),
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("region", REGION),
        ("language", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("image_sha256", pa.string()),
        ("phash", pa.string()),
    ]
)
"""One image with its caption. `region` is null unless the image was cut from a page."""

CORPUS = PAIRS.append(pa.field("split", pa.string()))
"""Pairs with the part they belong to: `train`, `dev` or `heldout`."""

MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))),
        ]
    )
)

REASONING = pa.schema(
    [
        ("messages", MESSAGES),
        ("images", pa.list_(IMAGE)),
        ("task", pa.string()),
        ("subfield", pa.string()),
        ("difficulty", pa.string()),
        ("prompt_id", pa.string()),
        ("pair_id", pa.string()),
        ("teacher", pa.string()),
        ("qc", pa.string()),
    ]
)
"""One chain-of-thought conversation; an image placeholder is a content part of type `image` with null text."""

MCQ = pa.schema(
    [
        ("mcq_id", pa.string()),
        ("prompt", pa.string()),
        ("images", pa.list_(IMAGE)),
        ("options", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("subfield", pa.string()),
        ("tissue_system", pa.string()),
        ("diagnosis", pa.string()),
        ("pair_id", pa.string()),
    ]
)
"""One multiple-choice question; `options` are texts without letters, `answer` is a letter from A."""

PREDICTIONS = pa.schema(
    [
        ("benchmark", pa.string()),
        ("model", pa.string()),
        ("item_id", pa.string()),
        ("prompt_style", pa.string()),
        ("response", pa.string()),
        ("extracted", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("blank_image", pa.bool_()),
    ]
)
"""One model's answer to one benchmark item; `extracted` is null where no answer could be read."""


class ShardWriter:
    """Writes rows to `<directory>/<prefix>-00000.parquet`, …; the bytes depend on the rows alone.

    A shard ends with the row that brings its images and texts to `shard_bytes`, a row group with the one that brings
    it to `row_group_bytes`.
    """

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        *,
        prefix: str = "shard",
        shard_bytes: int = 512 * 2**20,
        row_group_bytes: int = 64 * 2**20,
    ) -> None:
        self.directory = directory
        self.schema = schema
        self.prefix = prefix
        self.shard_bytes = shard_bytes
        self.row_group_bytes = row_group_bytes
        self.num_rows = 0
        self._num_shards = 0
        self._rows: list[Mapping[str, Any]] = []
        self._pending_bytes = 0
        self._written_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row; columns that it lacks are null.

        Raises:
            ValueError: The row has a column that the schema lacks.
        """
        if unknown := row.keys() - set(self.schema.names):
            raise ValueError(f"{self.directory.name} has no column {', '.join(sorted(unknown))}")
        self._rows.append(row)
        self._pending_bytes += _payload_bytes(row)
        self.num_rows += 1
        if self._pending_bytes >= min(self.row_group_bytes, self.shard_bytes - self._written_bytes):
            self._flush()

    def close(self) -> None:
        """Writes what is pending; a data set without rows still has one (empty) shard."""
        if self._rows or self._num_shards == 0:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        if self._writer is None:
            name = f"{self.prefix}-{self._num_shards:05d}.parquet"
            self._writer = pq.ParquetWriter(self.directory / name, self.schema, compression="zstd")
            self._num_shards += 1
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self.schema))
        self._written_bytes += self._pending_bytes
        self._rows, self._pending_bytes = [], 0
        if self._written_bytes >= self.shard_bytes:
            self._writer.close()
            self._writer = None
            self._written_bytes = 0


def read_rows(directory: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yields the rows of every shard below `directory` in order, one row group in memory at a time."""
    for shard in sorted(directory.rglob("*.parquet")):
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(batch_size=256, columns=columns):
                yield from batch.to_pylist()


def count_rows(directory: Path) -> int:
    """Rows of every shard below `directory`, from the files' footers alone."""
    return sum(pq.read_metadata(shard).num_rows for shard in directory.rglob("*.parquet"))


def _payload_bytes(value: object) -> int:
    """Bytes of text and images in a row, nested values included."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return sum(_payload_bytes(part) for part in value.values())
    if isinstance(value, list | tuple):
        return sum(_payload_bytes(part) for part in value)
    return 8
