"""The lineage index: every registered version, every output that it stands on, and the ids in their shards.

It is made from the manifests and the id columns of the shards that they list, and from nothing else: throw it away,
and the next update makes it again. A shard is read once, whoever lists it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from pathoflow.contract.lineage import LINEAGE_TAG, read_references
from pathoflow.contract.references import Reference
from pathoflow.errors import SealError
from pathoflow.governance.audit.fingerprints import Buckets, fingerprints
from pathoflow.governance.audit.hashing import StoredFile
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.outputs import StoredOutput
from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.stores import MissingError, UnreachableError, random_access
from pathoflow.governance.audit.versions import Version, all_versions
from pathoflow.stores.tracking import IDENTITY_TAG
from pathoflow.system.files import write_atomically

ID_COLUMNS = ("pair_id", "image_sha256", "source_id", "source")
_FORMAT = 1


@dataclass
class IndexedFile:
    """A file of an output: its path there, its SHA-256, and its number if its ids are known."""

    path: str
    sha256: str
    number: int | None = None


@dataclass
class IndexedOutput:
    """Summary of a manifest in the index.

    Attributes:
        stage: The stage that made it.
        kind: Data or model.
        dvc_md5: DVC's digest of a data set.
        inputs: Identities by stage.
        external: Path and SHA-256 of the files from outside.
        files: Its files.
    """

    stage: str
    kind: str
    dvc_md5: str | None
    inputs: dict[str, str]
    external: list[tuple[str, str]]
    files: list[IndexedFile]

    @property
    def has_ids(self) -> bool:
        """True if it lists the pairs in it."""
        return any(file.number is not None for file in self.files)


@dataclass
class IndexedVersion:
    """A registered version, the model that it is, and what it stands on or was judged by."""

    name: str
    number: str
    aliases: tuple[str, ...]
    model: str
    outputs: tuple[str, ...]

    @property
    def label(self) -> str:
        """The version as it is written on the command line."""
        return f"{self.name}/{self.number}"


@dataclass
class LineageIndex:
    """The index in memory; the fingerprints stay on disk.

    Attributes:
        folder: Where it lies.
        outputs: By identity.
        versions: Every version that has a lineage.
        numbers: The number of each shard whose ids are known, by SHA-256.
        booked: Shards that say which book a pair is from.
        problems: What could not be taken in, and why.
    """

    folder: Path
    outputs: dict[str, IndexedOutput] = field(default_factory=dict)
    versions: list[IndexedVersion] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    booked: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def buckets(self) -> Buckets:
        """The fingerprints of all ids."""
        return Buckets(self.folder / "buckets")

    @property
    def by_number(self) -> dict[int, list[tuple[str, str]]]:
        """Identity and path of every file by its number."""
        found: dict[int, list[tuple[str, str]]] = {}
        for identity, output in self.outputs.items():
            for file in output.files:
                if file.number is not None:
                    found.setdefault(file.number, []).append((identity, file.path))
        return found

    def rows(self, number: int) -> Path:
        """Returns the pairs of a shard with the book of each, kept where they come from no other shard."""
        return self.folder / "rows" / f"{number}.parquet"

    def pairs(self, number: int) -> NDArray[np.uint64]:
        """Fingerprints of the pairs of a shard that does not say which book they are from."""
        path = self.folder / "pairs" / f"{number}.npy"
        return np.load(path, mmap_mode="r") if path.is_file() else np.empty(0, np.uint64)

    @classmethod
    def load(cls, folder: Path) -> LineageIndex:
        """Loads the index in a folder; an empty one if there is none, or one of another form."""
        index = cls(folder)
        try:
            document = json.loads((folder / "graph.json").read_text())
        except (FileNotFoundError, ValueError):
            return index
        if document.get("format") != _FORMAT:
            return index
        index.numbers = document["numbers"]
        index.booked = set(document["booked"])
        index.problems = document["problems"]
        for identity, values in document["outputs"].items():
            files = [IndexedFile(path, sha256, index.numbers.get(sha256)) for path, sha256 in values.pop("files")]
            index.outputs[identity] = IndexedOutput(**values, files=files)
        index.versions = [
            IndexedVersion(**values | {name: tuple(values[name]) for name in ("aliases", "outputs")})
            for values in document["versions"]
        ]
        return index

    def save(self) -> None:
        """Makes the index lasting; ids that were added but not saved are never asked for."""
        self.buckets.flush()
        document = {
            "format": _FORMAT,
            "numbers": self.numbers,
            "booked": sorted(self.booked),
            "problems": self.problems,
            "versions": [asdict(version) for version in self.versions],
            "outputs": {
                identity: {
                    **{name: value for name, value in vars(output).items() if name != "files"},
                    "files": [(file.path, file.sha256) for file in output.files],
                }
                for identity, output in self.outputs.items()
            },
        }
        write_atomically(self.folder / "graph.json", json.dumps(document))


def update(folder: Path, places: Places, progress: Callable[[str], None] = lambda _: None) -> LineageIndex:
    """Takes in every version and output that the index does not know yet.

    Raises:
        UnreachableError: The registry does not answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        index = LineageIndex.load(folder)
        index.problems, index.versions = [], []
        buckets = index.buckets
        for version in all_versions(places.client):
            _take_version(index, buckets, version, places, progress)
        buckets.flush()
        index.save()
    return index


def _take_version(
    index: LineageIndex, buckets: Buckets, version: Version, places: Places, progress: Callable[[str], None]
) -> None:
    try:
        references = read_references(version.tags[LINEAGE_TAG])
        model = version.tags[IDENTITY_TAG]
    except (KeyError, SealError):
        index.problems.append(f"{version.label} has no lineage: what it was trained on is not known")
        return
    # The walk that collected them went from the model back: what others were made from comes last.
    for reference in reversed(references):
        if reference.identity not in index.outputs:
            progress(f"{version.label}: {reference.stage}")
            _take_output(index, buckets, reference, places)
    identities = tuple(reference.identity for reference in references)
    index.versions.append(IndexedVersion(version.name, version.number, version.aliases, model, identities))


def _take_output(index: LineageIndex, buckets: Buckets, reference: Reference, places: Places) -> None:
    links = Links(reference.stage)
    output = StoredOutput(reference.stage, reference.identity, reference, links)
    output.open(places, with_md5=False)
    if output.manifest is None:
        told = "; ".join(f"{link.check} {link.detail}" for link in links.found if link.verdict != "PASS")
        index.problems.append(f"{reference.stage} {reference.identity}: {told}")
        return
    inputs = [index.outputs[identity] for identity in output.manifest.inputs.values() if identity in index.outputs]
    is_origin = not any(source.has_ids for source in inputs)
    for path, file in output.files.items():
        if path.endswith(".parquet") and reference.kind == "data" and file.sha256 not in index.numbers:
            try:
                _take_shard(index, buckets, file, is_origin=is_origin)
            except (MissingError, UnreachableError, OSError, pa.ArrowException) as error:
                index.problems.append(f"{reference.stage} {reference.identity}: {path}: {error}")
    index.outputs[reference.identity] = IndexedOutput(
        stage=reference.stage,
        kind=output.manifest.kind,
        dvc_md5=reference.dvc_md5,
        inputs=output.manifest.inputs,
        external=[(file.path, file.sha256) for file in output.manifest.external_files],
        files=[IndexedFile(file.path, file.sha256, index.numbers.get(file.sha256)) for file in output.manifest.files],
    )


def _take_shard(index: LineageIndex, buckets: Buckets, file: StoredFile, *, is_origin: bool) -> None:
    with random_access(file.store, file.name) as source:
        shard = pq.ParquetFile(source)
        columns = [name for name in ID_COLUMNS if name in shard.schema_arrow.names]
        if "pair_id" not in columns:
            return
        table = shard.read(columns=columns)
    add_ids(index, buckets, file.sha256, table, is_origin=is_origin)


def add_ids(index: LineageIndex, buckets: Buckets, sha256: str, table: pa.Table, *, is_origin: bool) -> int:
    """Takes in the id columns of a shard and returns its number.

    Args:
        index: Gets the number.
        buckets: Get the fingerprints.
        sha256: Of the shard.
        table: Its id columns.
        is_origin: Whether its pairs come from no other shard: then it is asked which pairs are from a book.
    """
    number = len(index.numbers)
    buckets.add(number, np.concatenate(list(_terms(table))))
    if "source_id" in table.column_names:
        index.booked.add(number)
    if "source_id" in table.column_names and is_origin:
        index.rows(number).parent.mkdir(parents=True, exist_ok=True)
        kept = table.select([name for name in ("pair_id", "source_id") if name in table.column_names])
        pq.write_table(kept, index.rows(number), compression="zstd")
    if "source_id" not in table.column_names:
        path = index.folder / "pairs" / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.unique(fingerprints(table["pair_id"])))
    index.numbers[sha256] = number
    return number


def _terms(table: pa.Table) -> Iterator[NDArray[np.uint64]]:
    """Fingerprints of all that a row can be asked for by: its ids, and the book that its source id begins with."""
    for name in table.column_names:
        values = table[name]
        yield fingerprints(values.unique() if name == "source" else values)
        if name == "source_id":
            yield fingerprints(books_of(values).unique())


def books_of(source_ids: pa.ChunkedArray | pa.Array) -> Any:
    """Returns the first part of each source id, which names the book; null where there is only one part."""
    parts = pc.split_pattern(source_ids, "/", max_splits=1)
    return pc.if_else(
        pc.greater(pc.list_value_length(parts), 1), pc.list_element(parts, 0), pa.scalar(None, pa.string())
    )
