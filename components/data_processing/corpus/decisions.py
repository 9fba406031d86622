"""Decides about every pair: kept in a split, dropped for a reason, or set aside as broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.duplicates import (
    Candidates,
    Drop,
    deduplicate,
    dense_rank,
    int_column,
    rank,
)
from components.data_processing.corpus.evaluation_sets import EvaluationSet
from components.data_processing.corpus.hamming import distances
from components.data_processing.corpus.isolation import SetReport, decontaminate, isolate
from components.data_processing.corpus.joins import Integers
from components.data_processing.corpus.shingles import CaptionSets
from components.data_processing.corpus.splits import SPLITS

DROPPED = pa.schema(
    [
        ("pair_id", pa.string()),
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("split", pa.string()),
        ("reason", pa.string()),
        ("kept", pa.string()),
        ("different_bits", pa.int32()),
        ("caption_similarity", pa.float32()),
        ("detail", pa.string()),
    ]
)
"""A row for each pair that was dropped. `kept` is the pair that stays in its place, null where there is none."""

POLICY_FLAWS = ("boilerplate_only", "caption_too_short", "other_language", "blank_image")
"""Flaws of sound pairs that a corpus can do without; the others are faults, for which pairs are set aside."""


class Fault(NamedTuple):
    """A pair that is broken."""

    pair_id: str
    reason: str
    detail: str


@dataclass
class Decisions:
    """The decision about every pair.

    Attributes:
        kept: Rows of the survey that are written, in no order that matters.
        dropped: See `DROPPED`; ordered by pair_id and reason.
        faults: Broken pairs, in order.
        contamination: The pairs that each evaluation set took out.
    """

    kept: Integers
    dropped: pa.Table
    faults: list[Fault]
    contamination: dict[str, SetReport]


def decide(survey: pa.Table, sets: Sequence[EvaluationSet], config: CorpusConfig) -> Decisions:
    """Decides about all pairs, whatever the order in which they were read.

    Args:
        survey: All pairs.
        sets: Evaluation sets.
        config: The rules.
    """
    order = rank(survey, config.source_priority)
    ranked = survey.take(pa.array(order))
    flaws = ranked["flaw"]
    faulty = pc.is_valid(flaws).to_numpy() & ~pc.is_in(flaws, pa.array(POLICY_FLAWS)).to_numpy()
    faults = [
        Fault(*values)
        for values in zip(
            *(ranked[name].filter(pa.array(faulty)).to_pylist() for name in ("pair_id", "flaw", "detail")), strict=True
        )
    ]
    repeated = _repeated(ranked, ~faulty)
    faults += [
        Fault(name, "repeated_pair_id", "Another pair bears this id; the better one is kept.")
        for name in ranked["pair_id"].take(pa.array(repeated)).to_pylist()
    ]
    sound = ~faulty
    sound[repeated] = False
    candidates = _candidates(ranked, config)
    _drop_flawed(ranked, np.flatnonzero(sound), candidates)
    contamination = _drop_duplicates(ranked, np.flatnonzero(sound), sets, candidates, config)
    gone = np.zeros(len(order), dtype=bool)
    gone[list(candidates.dropped)] = True
    dropped = _dropped_table(ranked, candidates)
    return Decisions(order[sound & ~gone], dropped, sorted(faults), contamination)


def _repeated(ranked: pa.Table, sound: NDArray[np.bool_]) -> Integers:
    """Returns sound pairs whose id belongs to a better one."""
    rows = np.flatnonzero(sound)
    names = dense_rank(ranked["pair_id"].filter(pa.array(sound)))
    firsts = np.unique(names, return_index=True)[1]
    return np.delete(rows, firsts)


def _candidates(ranked: pa.Table, config: CorpusConfig) -> Candidates:
    captions = CaptionSets(
        _chunks(ranked["caption"]),
        shingle_words=config.shingle_words,
        num_hashes=config.minhash_length,
        similarity=config.caption_similarity,
    )
    hashes = pc.fill_null(ranked["phash"], 0).to_numpy().astype(np.uint64)
    images = dense_rank(ranked["image_sha256"].cast(pa.binary()))
    return Candidates(hashes, images, captions)


def _chunks(captions: pa.ChunkedArray, size: int = 20_000) -> Iterator[list[str]]:
    for start in range(0, len(captions), size):
        yield pc.fill_null(captions[start : start + size], "").to_pylist()


def _drop_flawed(ranked: pa.Table, rows: Integers, candidates: Candidates) -> None:
    for row, flaw, detail in zip(
        rows.tolist(),
        ranked["flaw"].take(pa.array(rows)).to_pylist(),
        ranked["detail"].take(pa.array(rows)).to_pylist(),
        strict=True,
    ):
        if flaw is not None:
            candidates.dropped[row] = Drop(flaw, detail=detail or "")


def _drop_duplicates(
    ranked: pa.Table, rows: Integers, sets: Sequence[EvaluationSet], candidates: Candidates, config: CorpusConfig
) -> dict[str, SetReport]:
    """Drops duplicates split by split, held-out pairs first: these never give way to training pairs."""
    contamination = decontaminate(ranked, candidates.remaining(rows), candidates, sets, config.evaluation_bits)
    split_of, groups = int_column(ranked, "split"), pc.fill_null(ranked["group"], 0).to_numpy()
    guarded: list[Integers] = []
    for number in range(len(SPLITS)):
        here = rows[split_of[rows] == number]
        for before, protected in zip(SPLITS, guarded, strict=False):
            isolate(candidates.remaining(here), protected, before, candidates, config.isolation_bits)
            left = candidates.remaining(here)
            for row in left[np.isin(groups[left], groups[protected])].tolist():
                candidates.dropped[row] = Drop(f"group_in_{before}", detail="Its book, slide or article is there.")
        deduplicate(candidates.remaining(here), candidates, config)
        guarded.append(candidates.remaining(here))
    return contamination


def _dropped_table(ranked: pa.Table, candidates: Candidates) -> pa.Table:
    rows = np.array(sorted(candidates.dropped), dtype=np.int64)
    drops = [candidates.dropped[row] for row in rows.tolist()]
    others = np.array([drop.kept for drop in drops], dtype=np.int64)
    has_other = others >= 0
    chosen, kept = rows[has_other], others[has_other]
    bits = np.zeros(len(rows), dtype=np.int32)
    bits[has_other] = distances(candidates.hashes[chosen], candidates.hashes[kept])
    similarity = np.zeros(len(rows), dtype=np.float32)
    similarity[has_other] = candidates.captions.jaccard(chosen, kept)
    here = ranked.take(pa.array(rows))
    columns = {
        "pair_id": here["pair_id"],
        "source": here["source"],
        "source_id": here["source_id"],
        "split": pa.array([SPLITS[number] for number in int_column(here, "split").tolist()], pa.string()),
        "reason": pa.array([drop.reason for drop in drops], pa.string()),
        "kept": ranked["pair_id"].take(pa.array(np.where(has_other, others, 0), mask=~has_other)),
        "different_bits": pa.array(bits, mask=~has_other),
        "caption_similarity": pa.array(similarity, mask=~has_other),
        "detail": pa.array([drop.detail for drop in drops], pa.string()),
    }
    table = pa.table(columns, schema=DROPPED)
    return table.sort_by([("pair_id", "ascending"), ("reason", "ascending")])
