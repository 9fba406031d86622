"""Joins all pairs into one deduplicated, split and sharded corpus."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.data_processing.corpus.captions import normalised
from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.duplicates import (
    Candidate,
    Deduplicator,
    Duplicate,
    count_reasons,
    deduplicate,
)
from components.data_processing.corpus.splits import PROTECTION, splitter
from pathoflow.errors import InputError
from pathoflow.output import StageOutput
from pathoflow.plots import image_grid, stacked_bars
from pathoflow.schemas import CORPUS, PAIRS, ShardWriter, read_rows

DUPLICATES_FILE = "duplicates.jsonl"
NUM_SHOWN = 24
_DECISIVE_COLUMNS = [name for name in PAIRS.names if name not in ("image", "region")]


def run(
    config: CorpusConfig,
    *,
    textbook_pairs: Path | None = None,
    public_pairs: Path | None = None,
    out: StageOutput,
) -> None:
    """Writes `train/`, `dev/` and `heldout/` with Parquet shards, and `duplicates.jsonl`.

    The pairs are read twice: first without their images, to decide; then whole, to write those that stay.

    Args:
        config: The stage's configuration.
        textbook_pairs: Pairs from books.
        public_pairs: Pairs from public data sets.
        out: Where the corpus goes.

    Raises:
        InputError: There is no pair at all, or none is left to train on.
    """
    inputs = [path / "pairs" for path in (textbook_pairs, public_pairs) if path is not None]
    candidates = _candidates(config, inputs, out)
    if not candidates:
        raise InputError("The corpus has no pairs: neither textbook_pairs nor public_pairs gave one.")
    deduplicator = Deduplicator(config.near_duplicate_bits, config.isolation_bits, config.max_captions_per_image)
    kept, duplicates = deduplicate(
        candidates, deduplicator, lambda num: out.progress(num, 2 * len(candidates), "pairs")
    )
    _write_duplicates(out.path / DUPLICATES_FILE, duplicates)
    shown = _write_shards(config, inputs, kept, out, num_before=len(candidates))
    _report(kept, duplicates, out)
    sheet = image_grid([row["image"]["bytes"] for row in shown], [row["caption"] for row in shown])
    out.plot("contact_sheet", sheet)
    if not out.metrics["num_train"]:
        raise InputError(
            f"No pair is left to train on: {out.metrics['num_heldout']:.0f} are held out and "
            f"{len(duplicates)} repeat others. Check the patterns of corpus.heldout."
        )


def _candidates(config: CorpusConfig, inputs: list[Path], out: StageOutput) -> list[Candidate]:
    """What decides about all pairs; a pair without words, or with a name already taken, is set aside."""
    split_of = splitter(config.heldout, config.dev_share)
    candidates: dict[str, Candidate] = {}
    for row in _rows(inputs, _DECISIVE_COLUMNS):
        out.num_in += 1
        if row["pair_id"] in candidates:
            out.quarantine(row["pair_id"], "repeated_pair_id", "Two pairs bear this id; the first is kept.")
            continue
        if not (caption := normalised(row["caption"])):
            out.quarantine(row["pair_id"], "empty_caption", "Nothing is left of the caption once normalised.")
            continue
        candidates[row["pair_id"]] = Candidate(
            pair_id=row["pair_id"],
            split=split_of(row["source"], row["source_id"]),
            caption=caption,
            source=row["source"],
            language=row["language"],
            num_inline_refs=len(row["inline_refs"]),
            num_pixels=row["width"] * row["height"],
            image_sha256=row["image_sha256"],
            phash=int(row["phash"], 16),
        )
    return list(candidates.values())


def _write_shards(
    config: CorpusConfig, inputs: list[Path], kept: Mapping[str, Candidate], out: StageOutput, num_before: int
) -> list[dict[str, Any]]:
    """Writes the kept pairs; returns some of them to be shown."""
    waiting = dict(kept)
    # Drawn, because the pairs of a source may come in a rhythm of their own.
    shown_ids = set(random.Random(0).sample(sorted(kept), k=min(NUM_SHOWN, len(kept))))
    shown = []
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                ShardWriter(
                    out.path / split,
                    CORPUS,
                    prefix=split,
                    shard_bytes=config.shard_mib * 2**20,
                    row_group_bytes=config.row_group_mib * 2**20,
                )
            )
            for split in PROTECTION
        }
        for num_read, row in enumerate(_rows(inputs), num_before + 1):
            # Of two pairs with one id, only the one that was decided about is written.
            candidate = waiting.get(row["pair_id"])
            if candidate is not None and normalised(row["caption"]) == candidate.caption:
                del waiting[candidate.pair_id]
                writers[candidate.split].write(row | {"caption": candidate.caption, "split": candidate.split})
                if candidate.pair_id in shown_ids:
                    shown.append(row | {"caption": candidate.caption})
            out.progress(num_read, 2 * num_before, "pairs")
    return shown


def _report(kept: Mapping[str, Candidate], duplicates: list[Duplicate], out: StageOutput) -> None:
    out.num_out = len(kept)
    by_split = Counter(candidate.split for candidate in kept.values())
    for split in PROTECTION:
        out.metric(f"num_{split}", by_split[split])
    out.metric("num_duplicates", len(duplicates))
    for reason, num in count_reasons(duplicates).items():
        out.metric(f"num_{reason}", num)
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    for split in PROTECTION:
        for candidate in kept.values():
            by_source[f"{candidate.source} ({candidate.language})"][split] += candidate.split == split
    out.plot("composition", stacked_bars(by_source, unit="pairs", title="Pairs by source, language and split"))


def _write_duplicates(path: Path, duplicates: list[Duplicate]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(duplicate), ensure_ascii=False) + "\n" for duplicate in duplicates)


def _rows(inputs: list[Path], columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    for directory in inputs:
        yield from read_rows(directory, columns)
