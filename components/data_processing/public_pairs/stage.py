"""Turns public data sets of captioned images into pairs of one schema."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data_processing.public_pairs.chunks import Chunk, plan_chunks
from components.data_processing.public_pairs.reading import find_chunk, read_chunks
from components.data_processing.public_pairs.sources import Quilt1MSource, Source
from pathoflow.data.schemas import PAIRS, ShardWriter, read_rows
from pathoflow.errors import ConfigError, InputError

if TYPE_CHECKING:
    from components.data_processing.public_pairs.config import PublicPairsConfig
    from pathoflow.contract.output import StageOutput
    from pathoflow.contract.sharding import Shard

LOOKUP_FILE = "quilt_1M_lookup.csv"


def run(
    config: PublicPairsConfig, *, teaching_atlas: Path | None = None, parts: Sequence[Path] = (), out: StageOutput
) -> None:
    """Writes `pairs/*.parquet`, one pair for each record whose caption and image can be used, and `sources.json`.

    Pairs stand in the order of the sources and of their records, those of slides by slide. What stands in a source_id
    before the first `#` names the slide, article or video that several pairs share.

    Args:
        config: The stage's configuration.
        teaching_atlas: Read when the configuration names no source.
        parts: Output of shards that read the same sources; chunks that are not in them are read here.
        out: Where the pairs go.

    Raises:
        ConfigError: There is neither a source nor an atlas.
        InputError: A source as a whole cannot be read, or no record is good.
    """
    sources = _sources(config, teaching_atlas)
    chunks = _read(config, sources, parts, None, out)
    tallies = [_Tally() for _ in sources]
    used: Counter[int] = Counter()
    with ShardWriter(out.path / "pairs", PAIRS, prefix="public") as writer:
        for chunk in chunks:
            for pair in _good_records(chunk, parts, tallies[chunk.source], out):
                writer.write(_with_ids(pair, used))
    out.num_out = writer.num_rows
    out.metric("num_pairs", writer.num_rows)
    _describe(sources, tallies, out)
    if not writer.num_rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in out.quarantined.most_common())
        raise InputError(
            f"{', '.join(str(source.paths()[0]) for source in sources)} gave no pair ({reasons or 'no records'}). "
            "Correct the sources or their images."
        )


def run_shard(config: PublicPairsConfig, *, teaching_atlas: Path | None = None, shard: Shard, out: StageOutput) -> None:
    """Reads one shard's share of the chunks and writes their pairs, still without names, as `chunks/*/*.parquet`.

    Args:
        config: The stage's configuration.
        teaching_atlas: Read when the configuration names no source.
        shard: Whose chunks are this task's.
        out: Where the chunks and counts go.

    Raises:
        ConfigError: There is neither a source nor an atlas.
        InputError: A source as a whole cannot be read.
    """
    sources = _sources(config, teaching_atlas)
    chunks = _read(config, sources, (), shard, out)
    tally = _Tally()
    for chunk in chunks:
        out.num_out += sum(
            1 for _ in _good_records(chunk, (), tally, out, columns=["reason", "group", "item", "detail"])
        )
        folder = find_chunk(chunk, out.scratch, ())
        assert folder is not None
        shutil.copytree(folder, out.path / "chunks" / chunk.name)


class _Tally:
    """Counts of the records of one source."""

    def __init__(self) -> None:
        self.num_pairs = 0
        self.quarantined: Counter[str] = Counter()
        self.missing_slides: Counter[str] = Counter()


def _sources(config: PublicPairsConfig, teaching_atlas: Path | None) -> list[Source]:
    """Returns the data sets to read."""
    if config.sources:
        return config.located()
    if teaching_atlas is None:
        raise ConfigError("public_pairs.sources: this recipe has no teaching atlas, so it must name a source.")
    table = teaching_atlas / "public" / LOOKUP_FILE
    return [Quilt1MSource(format="quilt_1m", table=table, licence="made by teaching_atlas")]


def _read(
    config: PublicPairsConfig, sources: Sequence[Source], parts: Sequence[Path], shard: Shard | None, out: StageOutput
) -> list[Chunk]:
    """Reads the chunks of the sources; each is then in the scratch directory or in one of the parts."""
    (out.scratch / "chunks").mkdir(parents=True, exist_ok=True)
    chunks = plan_chunks(
        sources, config.chunk_rows, out.scratch, shard, lambda done: out.progress(done, done + 1, "records listed")
    )
    num_rows = sum(chunk.num_rows for chunk in chunks)
    read_chunks(chunks, sources, config, out.scratch, parts, lambda done: out.progress(done, num_rows, "records"))
    out.num_in = num_rows
    return chunks


def _good_records(
    chunk: Chunk, parts: Sequence[Path], tally: _Tally, out: StageOutput, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the records of a chunk that make a pair; the others are set aside."""
    folder = find_chunk(chunk, out.scratch, parts)
    assert folder is not None
    for record in read_rows(folder, columns):
        if record["reason"] is None:
            tally.num_pairs += 1
            yield record
            continue
        tally.quarantined[record["reason"]] += 1
        if record["reason"] == "missing_slide":
            tally.missing_slides[record["group"]] += 1
        out.quarantine(record["item"], record["reason"], record["detail"])


def _with_ids(record: dict[str, Any], used: Counter[int]) -> dict[str, Any]:
    """Returns the pair of a record with its id; the second of an image is told from the first by `#2`.

    `used` counts by a number for each name, so that millions of names need little memory.
    """
    name = f"{record['source']}/{record['source_id']}"
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    used[number] += 1
    suffix = f"#{used[number]}" if used[number] > 1 else ""
    pair = {column: record[column] for column in PAIRS.names}
    return pair | {"source_id": record["source_id"] + suffix, "pair_id": name + suffix}


def _describe(sources: Sequence[Source], tallies: Sequence[_Tally], out: StageOutput) -> None:
    """Writes the facts about each source for the datasheet, and the list of wanted slides."""
    facts = {
        source.name: {
            "format": source.format,
            "licence": source.licence,
            "num_pairs": tally.num_pairs,
            "num_records": tally.num_pairs + sum(tally.quarantined.values()),
            "num_quarantined": dict(sorted(tally.quarantined.items())),
        }
        for source, tally in zip(sources, tallies, strict=True)
    }
    out.save_json("sources.json", facts)
    for name, fact in facts.items():
        out.metric(f"num_pairs_{name}", float(str(fact["num_pairs"])))
    missing = sum((tally.missing_slides for tally in tallies), start=Counter())
    if missing:
        out.save_json("missing_slides.json", missing)
        out.metric("num_missing_slides", len(missing))
