"""Joins all pairs into one clean, deduplicated, decontaminated, split and sharded corpus."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.datasheet import Facts, write_datasheet
from components.data_processing.corpus.decisions import Decisions, decide
from components.data_processing.corpus.evaluation_sets import read_evaluation_set
from components.data_processing.corpus.shuffling import plan_order, read_shuffled
from components.data_processing.corpus.splits import SPLITS
from components.data_processing.corpus.survey import take_survey
from components.data_processing.corpus.webdataset import TarWriter
from pathoflow.contract.output import StageOutput
from pathoflow.data.schemas import CORPUS, ShardWriter
from pathoflow.errors import InputError

DROPPED_FILE = "dropped.parquet"
DECONTAMINATION_FILE = "decontamination.json"


def run(
    config: CorpusConfig,
    *,
    textbook_pairs: Path | None = None,
    public_pairs: Path | None = None,
    out: StageOutput,
) -> None:
    """Writes `train/`, `dev/` and `heldout/` with Parquet shards, and reports on the pairs that were left out.

    `dropped.parquet` names for every pair that was dropped the reason and the pair that stays in its place;
    `decontamination.json` says what each evaluation set took out, `datasheet.md` what is in the corpus.
    With `webdataset`, the splits are there as tar files too.

    The pairs are read twice: first to check them and to decide, keeping no image; then to write those that stay.

    Args:
        config: The stage's configuration.
        textbook_pairs: Pairs from books.
        public_pairs: Pairs from public data sets.
        out: Where the corpus goes.

    Raises:
        InputError: There is no pair at all, or none is left to train on; a shard or an evaluation set is damaged.
    """
    shards = _shards(textbook_pairs, public_pairs)
    sets = [
        read_evaluation_set(path, min_name_characters=config.min_name_characters, max_pixels=config.max_image_pixels)
        for path in config.evaluation_sets
    ]
    survey = take_survey(
        config, shards, out.scratch / "survey", lambda num: out.progress(num, 2 * len(shards), "shards")
    )
    out.num_in = len(survey)
    if not out.num_in:
        raise InputError("The corpus has no pairs: neither textbook_pairs nor public_pairs gave one.")
    decisions = decide(survey, sets, config)
    for fault in decisions.faults:
        out.quarantine(*fault)
    facts = Facts.of(survey, decisions, config)
    _write(config, shards, survey, decisions, facts, out)
    pq.write_table(decisions.dropped, out.path / DROPPED_FILE, compression="zstd")
    out.save_json(DECONTAMINATION_FILE, facts.contamination)
    write_datasheet(facts, out)
    _report(facts, out)


def _shards(*inputs: Path | None) -> list[Path]:
    return [shard for path in inputs if path is not None for shard in sorted((path / "pairs").rglob("*.parquet"))]


def _write(
    config: CorpusConfig,
    shards: Sequence[Path],
    survey: pa.Table,
    decisions: Decisions,
    facts: Facts,
    out: StageOutput,
) -> None:
    """Writes the kept pairs, shuffled, as shards and tar files."""
    plan = plan_order(survey, decisions.kept, config.shuffle_mib * 2**20)
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
            for split in SPLITS
        }
        tars = {
            split: stack.enter_context(TarWriter(out.path / "webdataset", split, config.webdataset_samples))
            for split in (SPLITS if config.webdataset else ())
        }

        def on_read(num_read: int) -> None:
            out.progress(len(survey) + num_read, 2 * len(survey), "pairs")

        for batch in read_shuffled(survey, plan, shards, out.scratch / "buckets", on_read):
            writers[batch.split].write_table(batch.pairs, batch.num_bytes)
            if config.webdataset:
                tars[batch.split].write_table(batch.pairs)
            facts.show(batch.pairs)
    shutil.rmtree(out.scratch / "buckets", ignore_errors=True)


def _report(facts: Facts, out: StageOutput) -> None:
    by_split = Counter(facts.kept["split"].to_pylist())
    out.num_out = len(facts.kept)
    for split in SPLITS:
        out.metric(f"num_{split}", by_split[split])
    out.metric("num_dropped", len(facts.dropped))
    for reason, num in facts.reasons.items():
        out.metric(f"num_{reason}", num)
    if not by_split["train"]:
        reasons = ", ".join(f"{reason} {num}" for reason, num in facts.reasons.items()) or "none"
        raise InputError(
            f"No pair is left to train on: {by_split['heldout']} are held out and {len(facts.dropped)} were dropped "
            f"({reasons}). Check the patterns of corpus.heldout."
        )
