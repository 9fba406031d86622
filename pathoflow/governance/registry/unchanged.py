"""A digest that changes with anything an audit looked at, without reading the bytes again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pathoflow.contract.config import digest_of
from pathoflow.contract.lineage import LINEAGE_TAG, read_references
from pathoflow.contract.references import Reference
from pathoflow.errors import SealError
from pathoflow.governance.audit import Places
from pathoflow.governance.audit.hashing import StoredFile
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.outputs import StoredOutput
from pathoflow.governance.audit.stores import FolderStore, MissingError, UnreachableError
from pathoflow.governance.audit.versions import Version
from pathoflow.stores.tracking import IDENTITY_TAG

_QUESTIONS_AT_ONCE = 8


def state_of(places: Places, version: Version) -> str:
    """Digests a version's record and the state of every output that it stands on.

    Of each output: MLflow's run, the listing and the manifest, and of every file what its store says of it: in a folder
    size, times and inode, in a bucket size, time and the store's own checksum. Of files from outside: size and times.
    What cannot be looked at differs from what could be. Of an artifact that MLflow's server hands out only the name
    counts, since the server tells nothing else.
    """
    try:
        references = list(read_references(version.tags.get(LINEAGE_TAG, "[]")))
    except SealError:
        references = []
    identity = version.tags.get(IDENTITY_TAG, "")
    # What is served, whatever the lineage says of it.
    references.append(Reference(stage="model", kind="model", identity=identity, model_uri=version.uri))
    with ThreadPoolExecutor(_QUESTIONS_AT_ONCE) as pool:
        outputs = [_output(places, reference, pool) for reference in references]
    # Neither name nor number: a copy in the next environment has the same tags and the same bytes at the same place.
    runs = _runs(places, {reference.run_id for reference in references if reference.run_id})
    return digest_of([version.tags, version.run_id, urlsplit(version.uri).path, outputs, runs])


def _output(places: Places, reference: Reference, pool: ThreadPoolExecutor) -> list[Any]:
    output = StoredOutput(reference.stage, reference.identity, reference, Links(reference.stage))
    output.open(places, with_md5=False)
    told = [[link.check, link.verdict.value, link.detail] for link in output.links.found]
    files = list(pool.map(_file, output.files.values()))
    outside = [_outside(file.path, places) for file in output.manifest.external_files] if output.manifest else []
    return [reference.identity, told, files, outside]


def _file(file: StoredFile) -> list[Any]:
    try:
        return [file.name, file.sha256, file.num_bytes, *file.store.state(file.name)]
    except (MissingError, UnreachableError) as error:
        return [file.name, type(error).__name__]


def _outside(recorded: str, places: Places) -> list[Any]:
    folders = [Path(recorded)] + ([places.sources / Path(recorded).name] if places.sources else [])
    path = next((path for path in folders if path.exists()), None)
    if path is None or not Path(recorded).is_absolute():
        # The repository's own files are those of a commit.
        return [recorded, path is None]
    names = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [recorded, [FolderStore(name.parent).state(name.name) for name in names]]


def _runs(places: Places, run_ids: set[str]) -> Any:
    try:
        found = places.runs(run_ids)
    except UnreachableError as error:
        return type(error).__name__
    # As text: a figure may be no number.
    return {
        run_id: [run.info.lifecycle_stage, run.data.tags, run.data.params, str(sorted(run.data.metrics.items()))]
        for run_id, run in found.items()
    }
