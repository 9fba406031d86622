"""Defines the Parquet data sets that stages exchange, and writes and reads their shards."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

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


_OTHER_BYTES = 8
_WORTH_SYNCING_BYTES = 8 * 2**20


class ShardWriter:
    """Writes rows to `<directory>/<prefix>-00000.parquet`, …; the bytes depend on the rows alone.

    A shard ends with the row that brings its images and texts to `shard_bytes`, a row group with the one that brings
    it to `row_group_bytes`. Encoded images, which do not shrink, are stored as they are; all else is compressed.
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
        self._tables: list[pa.Table] = []
        self._pending_bytes = 0
        self._written_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._path = directory
        self._syncing: threading.Thread | None = None
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
        if self._pending_bytes >= self._room():
            self._flush()

    def write_table(self, table: pa.Table, num_bytes: NDArray[np.int64] | None = None) -> None:
        """Appends many rows without creating Python objects; the shards equal those that `write` would write.

        Args:
            table: The rows.
            num_bytes: `payload_bytes` of each of them, where it is known already.

        Raises:
            ValueError: The table's columns are not the schema's.
        """
        if table.schema.names != self.schema.names:
            raise ValueError(f"{self.directory.name} has the columns {', '.join(self.schema.names)}")
        self._rows_to_table()
        self.num_rows += len(table)
        ends = np.cumsum(payload_bytes(table) if num_bytes is None else num_bytes)
        start, before = 0, 0
        while start < len(table):
            stop = int(np.searchsorted(ends, before + self._room() - self._pending_bytes)) + 1
            part = table.slice(start, stop - start)
            self._tables.append(part)
            start, done = start + len(part), int(ends[start + len(part) - 1])
            self._pending_bytes += done - before
            before = done
            if self._pending_bytes >= self._room():
                self._flush()

    def close(self) -> None:
        """Writes pending rows; a data set without rows still has one (empty) shard."""
        if self._rows or self._tables or self._num_shards == 0:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._syncing is not None:
            self._syncing.join()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_sync(self) -> None:
        """Syncs written data to disk while the next row group is built, so that the seal need not wait for it."""
        if self._pending_bytes >= _WORTH_SYNCING_BYTES and not (self._syncing and self._syncing.is_alive()):
            self._syncing = threading.Thread(target=_sync, args=(self._path,), daemon=True)
            self._syncing.start()

    def _room(self) -> int:
        """Returns how many bytes are left until the row group is full."""
        return min(self.row_group_bytes, self.shard_bytes - self._written_bytes)

    def _rows_to_table(self) -> None:
        if self._rows:
            self._tables.append(pa.Table.from_pylist(self._rows, schema=self.schema))
            self._rows = []

    def _flush(self) -> None:
        if self._writer is None:
            name = f"{self.prefix}-{self._num_shards:05d}.parquet"
            self._path = self.directory / name
            self._writer = pq.ParquetWriter(self._path, self.schema, **_storage(self.schema))
            self._num_shards += 1
        self._rows_to_table()
        table = pa.concat_tables([self.schema.empty_table(), *self._tables])
        # One row group, however many rows it has: what is written row by row and as tables has the same bytes.
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._start_sync()
        self._written_bytes += self._pending_bytes
        self._tables, self._pending_bytes = [], 0
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
    """Counts the rows of every shard below `directory` from the files' footers alone."""
    return sum(pq.read_metadata(shard).num_rows for shard in directory.rglob("*.parquet"))


def _sync(path: Path) -> None:
    # Only ahead of time: the seal makes sure of every file, and tells what goes wrong.
    with suppress(OSError), path.open("rb") as file:
        os.fdatasync(file.fileno())


def _storage(schema: pa.Schema) -> dict[str, Any]:
    """Returns the Parquet writer's options: image bytes are stored plainly, all else with zstd and dictionaries."""
    leaves = [path for field in schema for path in _leaves(field.name, field.type)]
    encoded = [path for path, kind in leaves if pa.types.is_binary(kind)]
    return {
        "compression": {path: "none" if path in encoded else "zstd" for path, _ in leaves},
        "use_dictionary": [path for path, _ in leaves if path not in encoded],
        "write_statistics": [path for path, _ in leaves if path not in encoded],
        # Whether a page is full is asked after each batch. After each value, pages stay small, and their borders do
        # not depend on how the rows arrived; after Arrow's 1024 values, a page of images has tens of megabytes, and
        # fresh memory for it costs several times what copying the images does.
        "write_batch_size": 1,
    }


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Yields Parquet's column paths of a value of this type, with their types."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind


def payload_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Returns the bytes of text and images in each row, as shards and row groups count them."""
    return sum((_payloads(column) for column in table.columns), np.zeros(len(table), np.int64))


def _payloads(values: pa.ChunkedArray | pa.Array) -> NDArray[np.int64]:
    """Returns `_payload_bytes` of each value of a column."""
    return np.where(np.asarray(pc.is_valid(values)), _payloads_of_valid(values), _OTHER_BYTES)


def _payloads_of_valid(values: pa.ChunkedArray | pa.Array) -> NDArray[np.int64]:
    kind = values.type
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        return np.asarray(pc.fill_null(pc.binary_length(values), 0), dtype=np.int64)
    if pa.types.is_struct(kind):
        parts = (_payloads(pc.struct_field(values, [place])) for place in range(kind.num_fields))
        return sum(parts, np.zeros(len(values), np.int64))
    if pa.types.is_list(kind):
        ends = np.concatenate([[0], np.cumsum(_payloads(pc.list_flatten(values)))])
        lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0), dtype=np.int64)
        stops = np.cumsum(lengths)
        return np.asarray(ends[stops] - ends[stops - lengths], dtype=np.int64)
    return np.full(len(values), _OTHER_BYTES, dtype=np.int64)


def _payload_bytes(value: object) -> int:
    """Returns the bytes of text and images in a row, nested values included."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return sum(_payload_bytes(part) for part in value.values())
    if isinstance(value, list | tuple):
        return sum(_payload_bytes(part) for part in value)
    return _OTHER_BYTES
