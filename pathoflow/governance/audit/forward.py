"""Forward lineage: from a book, an image, a pair, a shard, a data set or a model to every registered version."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath, PurePosixPath

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pathoflow.errors import InputError
from pathoflow.governance.audit.fingerprints import fingerprints
from pathoflow.governance.audit.index import IndexedVersion, LineageIndex

_PARTS = {"train": "trained", "dev": "tuned", "val": "tuned", "heldout": "evaluated", "test": "evaluated"}
_DROPPED = ("dropped", "rejected", "quarantine")
_SHORTEST_DIGEST = 8


class Use(StrEnum):
    """Uses of an item in an output, the gravest first."""

    TRAINED = "trained"
    TUNED = "tuned"
    EVALUATED = "evaluated"
    HELD = "held"
    DROPPED = "dropped"


@dataclass
class Trace:
    """The way by which an output came to hold what was asked for, or to stand on it.

    Attributes:
        identity: The output.
        uses: In which parts of a data set it lies, or what a model did with it.
        files: The shards that hold it, if those are known.
        through: Identities of the inputs that brought it here; empty where it was found directly.
    """

    identity: str
    uses: set[Use]
    files: list[str] = field(default_factory=list)
    through: list[str] = field(default_factory=list)


@dataclass
class Forward:
    """The answer.

    Attributes:
        asked: What was asked for.
        matches: What it was found as.
        num_pairs: How many pairs it stands for, where it was a book and its pairs are known.
        traces: Every output that holds it or stands on it, by identity, inputs before what was made from them.
        versions: Every registered version that stands on it, and what it was used for there.
        problems: What the index could not take in: what was asked for may be there, too.
    """

    asked: str
    matches: list[str]
    num_pairs: int | None
    traces: dict[str, Trace]
    versions: list[tuple[IndexedVersion, Use]]
    problems: list[str]


def forward(index: LineageIndex, asked: str) -> Forward:
    """Finds the outputs and versions that stand on what a user names.

    Args:
        index: Every version that is asked about.
        asked: A version (`MODEL/VERSION`, `MODEL@ALIAS`), an output by stage, identity or DVC digest, a shard by its
            SHA-256 or as `STAGE/PATH`, a file from outside by its name or SHA-256, or an id of a row: a pair_id, an
            image's SHA-256, a source_id, a book, a source.

    Raises:
        InputError: Nothing of this name is known.
    """
    start, matches = _find_outputs(index, asked)
    num_pairs = None
    coarse = bool(start)
    numbers = index.buckets.files_with(fingerprints([asked]))
    if numbers:
        matches.append("an id in shards")
        pairs = _pairs_of_book(index, numbers, asked)
        num_pairs = len(pairs) or None
        numbers |= _shards_with_pairs(index, numbers, pairs)
        _trace_shards(index, numbers, start)
    if not start:
        told = f" The index lacks {len(index.problems)} outputs or versions: see --json." if index.problems else ""
        raise InputError(
            f"Nothing registered stands on {asked!r}, as far as the manifests and shards tell. Ask for a pair_id, a "
            f"source_id, a book, an image's SHA-256, STAGE/PATH of a shard, a stage, an identity or a version.{told}"
        )
    traces = _spread(index, start, by_row=not coarse)
    versions = [(version, use) for version in index.versions if (use := _use_of(version, traces, index)) is not None]
    return Forward(asked, matches, num_pairs, traces, versions, index.problems)


def _find_outputs(index: LineageIndex, asked: str) -> tuple[dict[str, Trace], list[str]]:
    """Outputs that are named as a whole, or by one of their files or sources."""
    found: dict[str, Trace] = {}
    matches: list[str] = []
    digest = asked.removeprefix("sha256:")
    is_digest = len(digest) >= _SHORTEST_DIGEST and re.fullmatch(r"[0-9a-f]+(\.dir)?", digest) is not None
    stage, _, path = asked.partition("/")
    for version in index.versions:
        if asked in (version.label, *(f"{version.name}@{alias}" for alias in version.aliases)):
            found[version.model] = Trace(version.model, {Use.TRAINED})
            matches.append(f"version {version.label}")
    for identity, output in index.outputs.items():
        is_output = asked == output.stage or (
            is_digest and (identity.removeprefix("sha256:").startswith(digest) or output.dvc_md5 == asked)
        )
        files = [
            file.path
            for file in output.files
            if (is_digest and file.sha256.startswith(digest)) or (output.stage == stage and path == file.path)
        ]
        sources = [name for name, sha256 in output.external if _is_source(asked, name) or sha256 == digest]
        if is_output or sources:
            found[identity] = Trace(identity, {Use.TRAINED} if output.kind == "model" else {Use.HELD})
            matches.append(f"{'source of ' if sources else ''}{output.stage} {identity}")
        elif files:
            found[identity] = Trace(identity, {use_of_part(file) for file in files}, files)
            matches.append(f"{', '.join(files)} of {output.stage} {identity}")
    return found, matches


def _is_source(asked: str, name: str) -> bool:
    return asked in (name, PurePath(name).name)


def _pairs_of_book(index: LineageIndex, numbers: set[int], asked: str) -> set[str]:
    """Returns the pairs whose source is a book or a place in it; none where the id is another."""
    pairs: set[str] = set()
    for number in numbers & index.booked:
        if not index.rows(number).is_file():
            continue
        table = pq.read_table(index.rows(number))
        places = table["source_id"]
        inside = pc.or_(pc.equal(places, asked), pc.starts_with(places, f"{asked}/"))
        pairs.update(table["pair_id"].filter(inside).to_pylist())
    return pairs


def _shards_with_pairs(index: LineageIndex, numbers: set[int], pairs: set[str]) -> set[int]:
    """Shards that hold some of the pairs and do not say which book those are from."""
    if not pairs:
        return set()
    wanted = np.sort(fingerprints(sorted(pairs)))
    others = set(index.numbers.values()) - index.booked - numbers
    return {number for number in others if _has_any(index.pairs(number), wanted)}


def _has_any(have: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> bool:
    """Returns whether two sorted arrays share a value."""
    places = np.searchsorted(have, wanted)
    inside = places < len(have)
    return bool((have[places[inside]] == wanted[inside]).any())


def _trace_shards(index: LineageIndex, numbers: set[int], found: dict[str, Trace]) -> None:
    places = index.by_number
    for number in sorted(numbers):
        for identity, path in places.get(number, []):
            trace = found.setdefault(identity, Trace(identity, set()))
            trace.uses.add(use_of_part(path))
            trace.files.append(path)


def use_of_part(path: str) -> Use:
    """Returns the use of a shard, by where it lies in its data set.

    >>> use_of_part("train/train-00000.parquet").value, use_of_part("dropped.parquet").value
    ('trained', 'dropped')
    >>> use_of_part("pairs/shard-00000.parquet").value
    'held'
    """
    parts = PurePosixPath(path).parts
    if parts[-1].startswith(_DROPPED):
        return Use.DROPPED
    return Use(_PARTS.get(parts[0], "held"))


def _spread(index: LineageIndex, start: dict[str, Trace], *, by_row: bool) -> dict[str, Trace]:
    """Follows the traces through the manifests' inputs.

    Where single rows were asked for, a data set that says which pairs it holds has its own answer. Everything else
    stands on what its inputs bring.
    """
    traces: dict[str, Trace] = {}
    for identity in _in_order(index):
        output, trace = index.outputs[identity], start.get(identity)
        brought = {source: traces[source] for source in output.inputs.values() if source in traces}
        own_answer = by_row and output.kind == "data" and output.has_ids
        if own_answer and trace is None:
            continue
        uses = trace.uses if trace else set()
        through = []
        for source, other in brought.items():
            if used := _used(index, source, other, output.kind):
                through.append(source)
                uses = uses if own_answer else uses | used
        if trace or through:
            traces[identity] = Trace(identity, uses, trace.files if trace else [], through)
    return traces


def _used(index: LineageIndex, source: str, trace: Trace, kind: str) -> set[Use]:
    """Returns the use that an output of this kind makes of what lies in one of its inputs."""
    if index.outputs[source].kind == "model":
        # What a model was trained on stays in whatever is made from it.
        return trace.uses & {Use.TRAINED, Use.TUNED}
    if kind == "data":
        return trace.uses - {Use.DROPPED}
    held = {Use.TRAINED} if Use.HELD in trace.uses else set()
    return (trace.uses & {Use.TRAINED, Use.TUNED}) | held


def _in_order(index: LineageIndex) -> Iterable[str]:
    """Returns every output, inputs before what was made from them; a circle in damaged records is cut."""
    done: dict[str, None] = {}
    for first in index.outputs:
        waiting = [first]
        open_: set[str] = set()
        while waiting:
            identity = waiting[-1]
            open_.add(identity)
            left = [
                source
                for source in index.outputs[identity].inputs.values()
                if source in index.outputs and source not in done and source not in open_
            ]
            if left:
                waiting += left
            else:
                waiting.pop()
                done[identity] = None
    return list(done)


def _use_of(version: IndexedVersion, traces: dict[str, Trace], index: LineageIndex) -> Use | None:
    """Returns the gravest use in a version: by its model, else by what judged it."""
    uses = set(traces[version.model].uses) if version.model in traces else set()
    if not uses & {Use.TRAINED, Use.TUNED}:
        others = [traces[identity] for identity in version.outputs if identity in traces]
        uses |= {Use.EVALUATED for other in others if other.uses & {Use.EVALUATED}}
        uses |= {use for other in others for use in other.uses & {Use.HELD, Use.DROPPED}}
    return next((use for use in Use if use in uses), None)
