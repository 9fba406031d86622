"""Shards hold every row, in order, within their limits, with the same bytes each time."""

from __future__ import annotations

import hashlib
import random
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathoflow.data.schemas import CORPUS, MCQ, PAIRS, PREDICTIONS, REASONING, REGION, ShardWriter, read_rows

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("refs", pa.list_(pa.string())),
    ]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text(max_size=8),
            "image": st.none() | st.fixed_dictionaries({"bytes": st.binary(max_size=60), "path": st.none()}),
            "refs": st.lists(st.text(max_size=5), max_size=2),
        }
    ),
    max_size=25,
)
LIMITS = st.integers(1, 300)


def payload(row) -> int:
    """Bytes of a row as the limits count them."""
    image = 8 if row["image"] is None else len(row["image"]["bytes"]) + 8
    return len(row["name"].encode()) + image + sum(len(text.encode()) for text in row["refs"])


def write(folder: Path, rows, **limits) -> None:
    with ShardWriter(folder, SCHEMA, **limits) as writer:
        for row in rows:
            writer.write(row)
    assert writer.num_rows == len(rows)


@given(rows=ROWS, shard_bytes=LIMITS, row_group_bytes=LIMITS)
@settings(max_examples=40, deadline=None)
def test_rows_come_out_as_they_went_in_and_no_part_exceeds_its_limit_by_more_than_its_last_row(
    rows, shard_bytes, row_group_bytes
):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), rows, shard_bytes=shard_bytes, row_group_bytes=row_group_bytes)
        assert list(read_rows(Path(folder))) == rows
        shards = sorted(Path(folder).iterdir())
        assert [shard.name for shard in shards] == [f"shard-{number:05d}.parquet" for number in range(len(shards))]
        for number, shard in enumerate(shards):
            with pq.ParquetFile(shard) as file:
                groups = [file.read_row_group(index).to_pylist() for index in range(file.num_row_groups)]
            for group in groups:
                assert sum(map(payload, group[:-1])) < row_group_bytes
            size = [payload(row) for group in groups for row in group]
            assert sum(size[:-1]) < shard_bytes
            assert sum(size) >= shard_bytes or number == len(shards) - 1


@given(rows=ROWS)
@settings(max_examples=15, deadline=None)
def test_the_bytes_depend_on_the_rows_alone(rows):
    def digest() -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), rows, shard_bytes=200, row_group_bytes=80)
            return [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in sorted(Path(folder).iterdir())]

    assert digest() == digest()


def test_a_small_shard_ends_early_though_row_groups_are_large(tmp_path):
    write(tmp_path, [{"name": "x" * 100} for _ in range(10)], shard_bytes=250)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_data_set_without_rows_has_one_empty_shard_with_its_columns(tmp_path):
    write(tmp_path, [])
    assert list(read_rows(tmp_path)) == []
    assert pq.read_schema(tmp_path / "shard-00000.parquet").equals(SCHEMA)


def test_columns_that_a_row_lacks_are_null_and_unknown_ones_are_an_error(tmp_path):
    write(tmp_path, [{"name": "a"}])
    assert list(read_rows(tmp_path)) == [{"name": "a", "image": None, "refs": None}]
    with pytest.raises(ValueError, match="no column nmae"):
        write(tmp_path, [{"nmae": "a"}])


def test_columns_can_be_chosen_and_shards_lie_in_folders(tmp_path):
    write(tmp_path / "b", [{"name": "2"}])
    write(tmp_path / "a", [{"name": "1"}])
    assert list(read_rows(tmp_path, ["name"])) == [{"name": "1"}, {"name": "2"}]


@pytest.mark.parametrize("schema", [PAIRS, CORPUS, REASONING, MCQ, PREDICTIONS])
def test_the_shared_schemas_can_be_written(tmp_path, schema):
    with ShardWriter(tmp_path, schema, prefix="part") as writer:
        writer.write({})
    assert list(read_rows(tmp_path)) == [dict.fromkeys(schema.names)]


def test_a_table_is_written_to_the_same_bytes_as_its_rows(tmp_path):
    rng = random.Random(0)
    rows = [
        {
            "pair_id": f"p{number}",
            "image": None if number % 17 == 0 else {"bytes": rng.randbytes(rng.randint(0, 3000)), "path": None},
            "caption": "é" * rng.randint(0, 50),
            "inline_refs": None if number % 7 == 0 else ["a" * rng.randint(0, 9)] * rng.randint(0, 3),
            "region": None if number % 3 else dict.fromkeys(REGION.names, 1),
            "split": "train",
        }
        for number in range(400)
    ]
    rows = [dict.fromkeys(CORPUS.names) | row for row in rows]
    keys = {"shard_bytes": 200_000, "row_group_bytes": 30_000}
    table = pa.Table.from_pylist(rows[33:], schema=CORPUS)
    with ShardWriter(tmp_path / "rows", CORPUS, **keys) as writer:
        for row in rows:
            writer.write(row)
    with ShardWriter(tmp_path / "mixed", CORPUS, **keys) as writer:
        for row in rows[:33]:
            writer.write(row)
        for start in range(0, len(table), 61):
            writer.write_table(table.slice(start, 61))
    shards = {path.name: path.read_bytes() for path in (tmp_path / "rows").iterdir()}
    assert len(shards) > 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "mixed").iterdir()} == shards
    group = pq.read_metadata(tmp_path / "rows" / "shard-00000.parquet").row_group(0)
    stored = {group.column(place).path_in_schema: group.column(place).compression for place in range(group.num_columns)}
    assert (stored["image.bytes"], stored["caption"]) == ("UNCOMPRESSED", "ZSTD")


def test_large_images_are_written_to_the_same_bytes_however_they_are_cut(tmp_path):
    rng = random.Random(1)
    rows = [dict.fromkeys(CORPUS.names) | {"image": {"bytes": rng.randbytes(300_000), "path": None}} for _ in range(40)]
    table = pa.Table.from_pylist(rows, schema=CORPUS)
    arrivals = {
        "whole": [table],
        "named one by one": [pa.concat_tables([table.slice(start, 1) for start in range(40)])],
        "in two": [table.slice(0, 7), table.slice(7)],
    }
    for name, tables in arrivals.items():
        with ShardWriter(tmp_path / name, CORPUS) as writer:
            for part in tables:
                writer.write_table(part)
    [whole], *others = ([path.read_bytes() for path in (tmp_path / name).iterdir()] for name in arrivals)
    assert all(other == [whole] for other in others)
