"""Makes weights of the training shards' bytes."""

from __future__ import annotations

import hashlib


def run(config, *, corpus, out) -> None:
    seed = hashlib.sha256()
    for path in sorted((corpus / "train").glob("*.parquet")):
        seed.update(path.read_bytes())
    (out.path / "model").mkdir()
    (out.path / "model" / "weights.bin").write_bytes((seed.digest() * config.num_bytes)[: config.num_bytes])
    (out.path / "config.json").write_text("{}\n")
    out.num_in = out.num_out = 1
    out.metric("recall_at_1", 0.5)
