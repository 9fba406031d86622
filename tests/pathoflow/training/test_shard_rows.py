"""Rows are read from their shards by number, with few row groups in memory."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest

from pathoflow.data.schemas import CORPUS, ShardWriter, read_rows
from pathoflow.training.plan import shuffled_passes
from pathoflow.training.shard_rows import ShardRows
from tests.support.pairs import pair

NUM_ROWS = 23


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Three shards of three row groups or fewer, three rows in each."""
    directory = tmp_path_factory.mktemp("rows")
    rows = [pair(str(number), f"Lesion {number}.") for number in range(NUM_ROWS)]
    size = len(rows[0]["image"]["bytes"])
    with ShardWriter(directory, CORPUS, row_group_bytes=size * 5 // 2, shard_bytes=size * 15 // 2) as writer:
        for row in rows:
            writer.write(row)
    assert len(list(directory.iterdir())) >= 3
    return directory


def test_rows_are_those_of_the_shards_in_order(shards):
    rows = ShardRows(shards)
    assert list(rows) == list(read_rows(shards))
    assert rows[NUM_ROWS - 1]["caption"] == f"Lesion {NUM_ROWS - 1}."
    for number in (-1, NUM_ROWS):
        with pytest.raises(IndexError):
            rows[number]


def test_some_rows_and_columns_can_be_left_out(shards):
    rows = ShardRows(shards, ["caption"], skipped=[0, 4, NUM_ROWS - 1])
    numbers = [number for number in range(NUM_ROWS) if number not in (0, 4, NUM_ROWS - 1)]
    assert list(rows) == [{"caption": f"Lesion {number}."} for number in numbers]
    assert len(rows.groups()) == len(rows)


def test_a_data_set_without_rows_has_none(tmp_path):
    with ShardWriter(tmp_path, CORPUS):
        pass
    assert list(ShardRows(tmp_path)) == []


def test_each_row_group_is_read_once_where_the_order_stays_within_a_few(shards, monkeypatch):
    usual, read = pq.ParquetFile.read_row_group, []
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, *args, **kwargs: read.append(file) or usual(file, *args, **kwargs),
    )
    rows = ShardRows(shards, groups_kept=2)
    num_groups = len(set(rows.groups().tolist()))
    assert num_groups > 5
    order = shuffled_passes(range(NUM_ROWS), NUM_ROWS, seed=0, groups=rows.groups(), groups_at_a_time=2)
    assert sorted(rows[number]["pair_id"] for number in order) == sorted(row["pair_id"] for row in rows)
    # Once for the order, and once for the comparison.
    assert len(read) <= 2 * num_groups
    read.clear()
    for number in np.random.default_rng(0).permutation(NUM_ROWS):
        rows[number]
    assert len(read) > num_groups


def captions(rows: ShardRows) -> list[str]:
    return [row["caption"] for row in rows]


def test_other_processes_get_rows_by_pickle_and_read_at_the_same_time(shards):
    rows = ShardRows(shards, skipped=[1], groups_kept=2)
    expected = captions(rows)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(captions, [rows] * 6)) == [expected] * 6


def test_rows_can_be_taken_out_and_others_are_numbered_anew(shards):
    rows = ShardRows(shards, skipped=[0, 5])
    fewer = rows.without([0, 3])
    assert len(rows) == NUM_ROWS - 2
    assert [row["caption"] for row in fewer] == [
        row["caption"] for place, row in enumerate(rows) if place not in (0, 3)
    ]
