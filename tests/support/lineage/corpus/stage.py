"""Holds each n-th pair out."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from pathoflow.data.schemas import CORPUS, ShardWriter


def run(config, *, textbook_pairs, out) -> None:
    tables = [pq.read_table(path) for path in sorted((textbook_pairs / "pairs").glob("*.parquet"))]
    rows = pa.concat_tables(tables).to_pylist()
    for split in ("train", "heldout"):
        with ShardWriter(out.path / split, CORPUS, prefix=split) as writer:
            for number, row in enumerate(rows):
                if (number % config.heldout_every == 0) == (split == "heldout"):
                    writer.write(row | {"split": split})
    out.save_json("decontamination.json", {"toys": {"items": {"images": 2}, "dropped": {"name": 1}}})
    out.num_in = out.num_out = len(rows)
    out.metric("num_pairs", len(rows))
