"""Reads the pairs a second time, and shuffles those that stay into shards within bounded memory.

Where a pair goes follows from its split and a hash of its id, so the order of the shards depends on which pairs there
are and on nothing else. Pairs are sorted bucket by bucket: a bucket is a stretch of the final order that fits in
memory. A corpus of one bucket is sorted at once; a larger one is first dealt out to a file for each bucket.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data_processing.corpus.duplicates import dense_rank, int_column
from components.data_processing.corpus.joins import Integers
from components.data_processing.corpus.splits import SPLITS, Split
from components.data_processing.corpus.survey import read_batches
from pathoflow.data.schemas import CORPUS, PAIRS, payload_bytes

_PLACE = "place"
_DEALT = CORPUS.append(pa.field(_PLACE, pa.int64()))
_STEP_BYTES = 16 * 2**20
_WORTH_A_CHUNK_BYTES = 4096
_CHANGED = ("caption", "language")


class SplitBatch(NamedTuple):
    """Consecutive pairs of the final order, all of one split, and how large each of them is."""

    split: Split
    pairs: pa.Table
    num_bytes: NDArray[np.int64]


@dataclass
class Plan:
    """The place of every pair in the final order.

    Attributes:
        place: For each row of the survey its place in the final order; -1 if it is not written.
        splits: For each place the split's number.
        bucket: For each place the bucket's number; buckets do not cross splits.
    """

    place: Integers
    splits: Integers
    bucket: Integers

    @property
    def num_buckets(self) -> int:
        """Number of buckets."""
        return int(self.bucket[-1]) + 1 if len(self.bucket) else 0


def plan_order(survey: pa.Table, kept: Integers, bucket_bytes: int) -> Plan:
    """Decides the final order of the kept rows of a survey, and cuts it into buckets."""
    chosen = survey.select(["split", "order", "pair_id", "image_bytes", "caption"]).take(pa.array(kept))
    splits = int_column(chosen, "split").astype(np.int64)
    order = np.lexsort((dense_rank(chosen["pair_id"]), chosen["order"].to_numpy(), splits))
    place = np.full(len(survey), -1, dtype=np.int64)
    place[kept[order]] = np.arange(len(kept))
    sizes = int_column(chosen, "image_bytes") + pc.binary_length(chosen["caption"]).to_numpy()
    return Plan(place, splits[order], _assign_buckets(splits[order], sizes[order], bucket_bytes))


def read_shuffled(
    survey: pa.Table,
    plan: Plan,
    shards: Sequence[Path],
    scratch: Path,
    on_read: Callable[[int], None],
) -> Iterator[SplitBatch]:
    """Yields all pairs of a plan in its order.

    Args:
        survey: The facts about the pairs, in the order of the shards.
        plan: Where they go.
        shards: Parquet files of pairs, as they were surveyed.
        scratch: Where buckets are kept meanwhile; what lies there is removed first.
        on_read: Hears how many pairs were read.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    if plan.num_buckets <= 1:
        tables = [_DEALT.empty_table(), *_read_kept(survey, plan, shards, on_read)]
        yield from _sort_bucket(pa.concat_tables(tables), plan)
        return
    scratch.mkdir(parents=True)
    paths = [scratch / f"{number:05d}.arrows" for number in range(plan.num_buckets)]
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(path, _DEALT)) for path in paths]
        for table in _read_kept(survey, plan, shards, on_read):
            buckets = plan.bucket[table[_PLACE].to_numpy()]
            for number in np.unique(buckets).tolist():
                writers[number].write_table(table.filter(pa.array(buckets == number)))
    for path in paths:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
            yield from _sort_bucket(reader.read_all(), plan)
        path.unlink()


def take_in_chunks(pairs: pa.Table, order: Integers) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Yields the pairs in another order with their sizes, some megabytes at a time.

    Images are named slice by slice where they lie, and copied only by whoever writes them; small ones, which cost less
    to copy than to name, are gathered. Arrow's own `take` copies all images of the bucket first, and fresh memory for
    a whole bucket costs more than the copying.
    """
    plain = pairs.drop_columns(["image"]).combine_chunks()
    images = pairs["image"].chunks
    starts = np.cumsum([0, *(len(chunk) for chunk in images)])
    place = pairs.schema.get_field_index("image")
    num_bytes = payload_bytes(pairs)
    mean_bytes = max(int(num_bytes.sum()) // max(len(pairs), 1), 1)
    step = max(1, _STEP_BYTES // mean_bytes)
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        chunks = np.searchsorted(starts, rows, side="right") - 1
        within = rows - starts[chunks]
        slices = [images[chunk].slice(row, 1) for chunk, row in zip(chunks.tolist(), within.tolist(), strict=True)]
        gathered = pa.chunked_array(slices if mean_bytes >= _WORTH_A_CHUNK_BYTES else [pa.concat_arrays(slices)])
        table = plain.take(pa.array(rows)).add_column(place, pairs.schema.field("image"), gathered)
        yield table, num_bytes[rows]


def _sort_bucket(table: pa.Table, plan: Plan) -> Iterator[SplitBatch]:
    """Yields the pairs of a bucket, sorted; a bucket that holds all pairs has several splits."""
    places = table[_PLACE].to_numpy()
    order = np.argsort(places)
    splits = plan.splits[places[order]]
    for number in np.unique(splits).tolist():
        for pairs, num_bytes in take_in_chunks(table.drop_columns([_PLACE]), order[splits == number]):
            yield SplitBatch(SPLITS[number], pairs, num_bytes)


def _read_kept(
    survey: pa.Table, plan: Plan, shards: Sequence[Path], on_read: Callable[[int], None]
) -> Iterator[pa.Table]:
    """Yields the pairs that stay, as they are written, with their places."""
    start = 0
    for shard in shards:
        for batch in read_batches(shard):
            places = plan.place[start : start + len(batch)]
            stays = np.flatnonzero(places >= 0)
            if len(stays):
                facts = survey.slice(start, len(batch)).select(_CHANGED).take(pa.array(stays))
                pairs = pa.table(batch).select(PAIRS.names).take(pa.array(stays))
                for name in _CHANGED:
                    pairs = pairs.set_column(PAIRS.get_field_index(name), PAIRS.field(name), facts[name])
                split_names = pa.array(SPLITS).take(pa.array(plan.splits[places[stays]]))
                pairs = pairs.append_column("split", split_names).append_column(_PLACE, pa.array(places[stays]))
                yield pairs.cast(_DEALT)
            start += len(batch)
            on_read(start)


def _assign_buckets(splits: Integers, sizes: NDArray[np.int64], bucket_bytes: int) -> Integers:
    """Assigns a bucket to each place: one for all if they fit, else as few as it takes, split by split."""
    if sizes.sum() <= bucket_bytes:
        return np.zeros(len(sizes), dtype=np.int64)
    buckets = np.zeros(len(sizes), dtype=np.int64)
    first = 0
    for number in np.unique(splits):
        here = splits == number
        ends = np.cumsum(sizes[here])
        buckets[here] = first + (ends - 1) // bucket_bytes
        first = int(buckets[here][-1]) + 1
    # Numbers without gaps, though an image may be larger than a bucket.
    return np.unique(buckets, return_inverse=True)[1].astype(np.int64)
