"""Keeps evaluation data out of the training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data_processing.corpus.duplicates import Candidates, Drop
from components.data_processing.corpus.evaluation_sets import EvaluationSet
from components.data_processing.corpus.joins import Integers, Words
from components.data_processing.corpus.neighbours import Neighbours, near_images
from components.data_processing.corpus.splits import compile_globs

NUM_EXAMPLES = 5


@dataclass
class SetReport:
    """The pairs that one evaluation set took out of the corpus.

    Attributes:
        items: Counts of the set's items that were compared with pairs.
        dropped: Pairs dropped by route: `name`, `pattern`, `same_file`, `similar_image`.
        by_bits: Pairs dropped by how their image looks, by the number of bits in which the hashes differ.
        examples: Some pairs dropped, with what they match.
    """

    items: dict[str, int]
    dropped: Counter[str] = field(default_factory=Counter)
    by_bits: Counter[int] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        by_bits = {str(bits): num for bits, num in sorted(self.by_bits.items())}
        dropped = dict(sorted(self.dropped.items()))
        return {"items": self.items, "dropped": dropped, "by_different_bits": by_bits, "examples": self.examples}


def decontaminate(
    survey: pa.Table, rows: Integers, candidates: Candidates, sets: Sequence[EvaluationSet], max_bits: int
) -> dict[str, SetReport]:
    """Drops pairs that bear the name of an evaluation item, or whose image is or looks like one.

    Args:
        survey: All pairs by rank.
        rows: The pairs to look at.
        candidates: The columns by which they are compared; gets the drops.
        sets: Evaluation sets.
        max_bits: Largest Hamming distance between images that look alike.

    Returns:
        A report for each set. A pair that several sets claim is counted for the first, by the first route.
    """
    reports = {}
    for evaluation in sets:
        report = SetReport(
            {
                "images": evaluation.num_images,
                "names": len(evaluation.names),
                "patterns": len(evaluation.patterns),
                "unreadable_images": len(evaluation.unreadable),
            }
        )
        for route, row, item, bits in _matches(survey, rows, candidates, evaluation, max_bits):
            if row in candidates.dropped:
                continue
            candidates.dropped[row] = Drop(f"evaluation_{route}", detail=f"{evaluation.name}: {item}")
            report.dropped[route] += 1
            if bits is not None:
                report.by_bits[bits] += 1
            if report.dropped[route] <= NUM_EXAMPLES:
                pair_id = survey["pair_id"][row].as_py()
                report.examples.append({"pair_id": pair_id, "route": route, "item": item, "different_bits": bits})
        reports[evaluation.name] = report
    return reports


def isolate(rows: Integers, protected: Integers, name: str, candidates: Candidates, max_bits: int) -> None:
    """Drops those of some rows whose image is, or looks like, one of the protected rows' images.

    Of several that it looks like, a dropped pair names the nearest, and of equally near ones the best by rank.
    """
    by_image = dict(zip(candidates.images[protected][::-1].tolist(), protected[::-1].tolist(), strict=True))
    for row in rows[np.isin(candidates.images[rows], candidates.images[protected])].tolist():
        candidates.dropped[row] = Drop(f"same_image_in_{name}", by_image[int(candidates.images[row])])
    rest = candidates.remaining(rows)
    for row, other, _ in _nearest(near_images(rest, protected, candidates.hashes, max_bits)):
        candidates.dropped[row] = Drop(f"similar_image_in_{name}", other)


def _matches(
    survey: pa.Table, rows: Integers, candidates: Candidates, evaluation: EvaluationSet, max_bits: int
) -> list[tuple[str, int, str, int | None]]:
    """Returns (route, row, matched item, differing bits or None) of every match, exact ones first."""
    matches: list[tuple[str, int, str, int | None]] = []
    here = survey.select(["pair_id", "source", "source_id", "image_sha256"]).take(pa.array(rows))
    full = pc.binary_join_element_wise(here["source"], here["source_id"], "/")
    if evaluation.names:
        bare = pc.replace_substring_regex(here["source_id"], "#.*", "")
        last = pc.replace_substring_regex(bare, ".*/", "")
        wanted = pa.array(sorted(evaluation.names))
        for names in (here["pair_id"], full, here["source_id"], bare, last):
            found = np.flatnonzero(pc.fill_null(pc.is_in(names, wanted), False).to_numpy())
            matches += [("name", int(rows[place]), names[int(place)].as_py(), None) for place in found]
    for pattern in evaluation.patterns:
        match = compile_globs([pattern])
        under = [place for place, name in enumerate(full.to_pylist()) if match(name)]
        matches += [("pattern", int(rows[place]), pattern, None) for place in under]
    if evaluation.files:
        known = pc.is_in(here["image_sha256"], pa.array(sorted(evaluation.files), pa.binary(32)))
        for place in np.flatnonzero(pc.fill_null(known, False).to_numpy()).tolist():
            item = evaluation.files[here["image_sha256"][place].as_py()]
            matches.append(("same_file", int(rows[place]), item, 0))
    if evaluation.phashes:
        hashes = np.array(sorted(evaluation.phashes), dtype=np.uint64)
        for row, other, bits in _nearest(_compare(candidates.hashes, rows, hashes, max_bits)):
            matches.append(("similar_image", row, evaluation.phashes[int(hashes[other])], bits))
    return matches


def _compare(hashes: Words, rows: Integers, others: Words, max_bits: int) -> Neighbours:
    """Finds near images among rows and foreign hashes; `right` counts from the first of those."""
    every = np.concatenate([hashes, others])
    near = near_images(rows, np.arange(len(hashes), len(every)), every, max_bits)
    return near._replace(right=near.right - len(hashes))


def _nearest(near: Neighbours) -> list[tuple[int, int, int]]:
    """Returns for each row on the left the nearest on the right and their distance."""
    order = np.lexsort((near.right, near.bits, near.left))
    ordered = near.select(order)
    first = np.unique(ordered.left, return_index=True)[1]
    nearest = ordered.select(first)
    return list(zip(nearest.left.tolist(), nearest.right.tolist(), nearest.bits.tolist(), strict=True))
