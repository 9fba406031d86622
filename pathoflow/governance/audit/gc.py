"""Garbage collection of runs, data, pipeline artifacts and checkpoints that no registered version needs.

What a version needs is what its lineage names. Where one version's lineage is not known, nothing is known to be safe.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from mlflow.entities import Run, RunStatus, ViewType

from pathoflow.contract.lineage import LINEAGE_TAG, read_references
from pathoflow.contract.references import Reference
from pathoflow.errors import InputError, SealError, StageError
from pathoflow.governance.audit.kubeflow import KFP_TAG
from pathoflow.governance.audit.outputs import object_name
from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.stores import BucketStore, Entry, FolderStore, MissingError, UnreachableError, read
from pathoflow.governance.audit.versions import all_versions
from pathoflow.stores.tracking import PARENT_TAG

Kind = Literal["MLflow run", "DVC object", "pipeline artifact", "checkpoint", "download"]
_DAY_S = 86400.0
_RUNS_PER_CALL = 50
_KFP_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Item:
    """One thing that may go.

    Attributes:
        kind: What it is.
        name: The run's id, the object's name or the path.
        where: The store or folder that holds it.
        num_bytes: How much it frees; 0 where that is not known.
        why: Why nothing needs it.
    """

    kind: Kind
    name: str
    where: str
    num_bytes: int
    why: str


@dataclass(frozen=True)
class Cluster:
    """Leftovers of pipelines on a cluster beside MLflow and DVC, in folders that are named by the pipeline's run.

    Attributes:
        artifacts: Where Kubeflow Pipelines keeps what its tasks hand on, as `s3://bucket/prefix` or a folder.
        checkpoints: The volume with the runs' checkpoints, where it is mounted.
    """

    artifacts: str | None = None
    checkpoints: Path | None = None


@dataclass
class Needed:
    """Outputs and runs that registered versions, and the work directory's next run, cannot do without.

    Attributes:
        runs: Ids of MLflow runs.
        pipelines: Ids of pipeline runs that versions came from.
        objects: Names of objects in DVC's stores.
        unknown: Versions and data sets whose needs could not be told, and why.
    """

    runs: set[str] = field(default_factory=set)
    pipelines: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


@dataclass
class Plan:
    """Plan of a clean-up.

    Attributes:
        items: What may go.
        obstacles: Why nothing is removed: with these, `clean` refuses.
        num_kept_runs: Runs that stay.
        num_kept_objects: Objects that stay.
    """

    items: list[Item]
    obstacles: list[str]
    num_kept_runs: int = 0
    num_kept_objects: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes that would be freed, as far as they are known."""
        return sum(item.num_bytes for item in self.items)


def needed(places: Places) -> Needed:
    """Collects what registered versions and the next run need.

    Raises:
        UnreachableError: The registry does not answer.
    """
    found = Needed()
    references: list[Reference] = []
    for version in all_versions(places.client):
        if version.run_id:
            found.runs.add(version.run_id)
        found.pipelines.add(version.tags.get(KFP_TAG, ""))
        try:
            references += read_references(version.tags[LINEAGE_TAG])
        except (KeyError, SealError):
            found.unknown.append(f"{version.label} has no readable lineage: what it needs is not known")
    if places.workdir:
        # The next `pathoflow run` builds on these as they are.
        texts = (path.read_bytes() for path in sorted((places.workdir.state / "references").glob("*.json")))
        references += map(Reference.model_validate_json, texts)
    for reference in dict.fromkeys(references):
        if reference.run_id:
            found.runs.add(reference.run_id)
        if reference.model_uri and reference.model_uri.startswith("runs:/"):
            found.runs.add(reference.model_uri.split("/")[1])
        if reference.dvc_md5:
            _need_data(places, reference, found)
    return found


def _need_data(places: Places, reference: Reference, found: Needed) -> None:
    assert reference.dvc_md5
    name = object_name(reference.dvc_md5)
    found.objects.add(name)
    try:
        entries = json.loads(read(places.data(reference), name))
        found.objects |= {object_name(entry["md5"]) for entry in entries}
    except (MissingError, UnreachableError, ValueError, KeyError, TypeError) as error:
        found.unknown.append(f"the listing of {reference.stage} {reference.dvc_md5} cannot be read: {error}")


def plan(places: Places, older_than_days: float, cluster: Cluster = Cluster()) -> Plan:
    """Plans a clean-up; nothing is touched.

    Args:
        places: The stores.
        older_than_days: What is younger stays: a run that goes on has not registered its outputs yet.
        cluster: Where to look for what a cluster's pipelines left.

    Raises:
        UnreachableError: The registry does not answer.
    """
    must = needed(places)
    before_s = time.time() - older_than_days * _DAY_S
    runs = _every_run(places)
    items: list[Item] = []
    kept = _with_parents(must.runs, runs)
    for run in runs.values():
        if run.info.run_id not in kept and run.info.start_time / 1e3 < before_s and not _is_going_on(run):
            state = "in MLflow's waste bin" if run.info.lifecycle_stage != "active" else run.info.status.lower()
            items.append(Item("MLflow run", run.info.run_id, places.tracking_uri, 0, f"{run.info.run_name}, {state}"))
    obstacles = must.unknown + [
        f"run {run_id}, which a version needs, is in MLflow's waste bin. Restore it: `mlflow runs restore --run-id "
        f"{run_id}`"
        for run_id in sorted(must.runs & runs.keys())
        if runs[run_id].info.lifecycle_stage != "active"
    ]
    items += [
        Item("DVC object", entry.name, store.root, entry.num_bytes, "in no version's data")
        for store in _data_stores(places)
        for entry in store.entries()
        if entry.name not in must.objects and entry.modified_s < before_s and entry.name.startswith("files/md5/")
    ]
    items += _in_workdir(places, before_s)
    items += _of_pipelines(places, cluster, must.pipelines, before_s)
    if places.moved_from and any(item.kind == "MLflow run" for item in items):
        obstacles.append(
            f"{places.workdir.root if places.workdir else ''} was made at {places.moved_from}: MLflow would delete the "
            "runs' artifacts there. Clean up where the work directory was made"
        )
    return Plan(items, obstacles, len(kept & runs.keys()), len(must.objects))


def clean(
    places: Places,
    wanted: Plan,
    older_than_days: float,
    backend_store_uri: str | None = None,
    cluster: Cluster = Cluster(),
) -> list[str]:
    """Removes what a plan names, after what must stay was asked for again.

    Args:
        places: The stores.
        wanted: The plan.
        older_than_days: That of the plan.
        backend_store_uri: MLflow's database, where its server does not say; without it, runs of a server go to its
            waste bin only.
        cluster: That of the plan.

    Returns:
        What was done, and what was not.

    Raises:
        InputError: What some version needs is not known.
    """
    if places.workdir:
        with places.workdir.lock():
            return _clean(places, wanted, older_than_days, backend_store_uri, cluster)
    return _clean(places, wanted, older_than_days, backend_store_uri, cluster)


def _clean(
    places: Places, wanted: Plan, older_than_days: float, backend_store_uri: str | None, cluster: Cluster
) -> list[str]:
    now = plan(places, older_than_days, cluster)
    if now.obstacles:
        raise InputError("Nothing was removed: " + "; ".join(now.obstacles) + ".")
    # Something may have been registered since the plan was shown.
    items = [item for item in wanted.items if item in set(now.items)]
    told = []
    stores = {store.root: store for store in (*_data_stores(places), *_artifact_stores(places, cluster))}
    for item in items:
        if item.where in stores:
            stores[item.where].remove(item.name)
        elif item.kind != "MLflow run":
            path = Path(item.where) / item.name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    runs = [item.name for item in items if item.kind == "MLflow run"]
    for run_id in runs:
        if places.run(run_id).info.lifecycle_stage == "active":
            places.client.delete_run(run_id)
    backend = backend_store_uri or (places.tracking_uri if "://" in places.tracking_uri and places.workdir else None)
    # `mlflow gc` takes every experiment in the waste bin along, whatever runs it was asked for.
    binned = [item.name for item in places.client.search_experiments(view_type=ViewType.DELETED_ONLY)]
    if runs and binned:
        told.append(
            f"{len(runs)} runs are in MLflow's waste bin and stay there: `mlflow gc` would also take the experiments "
            f"{', '.join(binned)}. Restore those, or run it by hand."
        )
    elif runs and backend:
        for start in range(0, len(runs), _RUNS_PER_CALL):
            _purge(backend, places.tracking_uri, runs[start : start + _RUNS_PER_CALL])
    elif runs:
        told.append(f"{len(runs)} runs are in MLflow's waste bin; --backend-store-uri URI removes them for good.")
    told.insert(0, f"Removed {len(items)} of {len(wanted.items)}; the rest came into use.")
    return told if len(items) < len(wanted.items) else [f"Removed {len(items)}.", *told[1:]]


def _purge(backend: str, tracking_uri: str, runs: list[str]) -> None:
    """MLflow's own clean-up, for these runs only."""
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", backend, "--run-ids", ",".join(runs)]
    done = subprocess.run([*command, "--tracking-uri", tracking_uri], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StageError(f"`mlflow gc` failed, and the runs stay in its waste bin: {done.stderr[-500:]}")


def _every_run(places: Places) -> dict[str, Run]:
    found: dict[str, Run] = {}
    experiments = [item.experiment_id for item in places.client.search_experiments(view_type=ViewType.ALL)]
    token = None
    while experiments:
        page = places.client.search_runs(experiments, run_view_type=ViewType.ALL, page_token=token)
        found |= {run.info.run_id: run for run in page}
        token = page.token
        if not token:
            break
    return found


def _with_parents(needed_runs: set[str], runs: dict[str, Run]) -> set[str]:
    """Returns the needed runs and those that they are nested in."""
    kept = set(needed_runs)
    waiting = list(needed_runs)
    while waiting:
        run = runs.get(waiting.pop())
        parent = run.data.tags.get(PARENT_TAG) if run else None
        if parent and parent not in kept:
            kept.add(parent)
            waiting.append(parent)
    return kept


def _is_going_on(run: Run) -> bool:
    return RunStatus.from_string(run.info.status) in (RunStatus.RUNNING, RunStatus.SCHEDULED)


def _data_stores(places: Places) -> list[FolderStore | BucketStore]:
    """Returns the DVC remote, and the cache of a work directory."""
    roots = [places.dvc_remote] if places.dvc_remote else []
    if places.workdir:
        roots.append(str(places.workdir.dvc / "cache"))
    return _writable(places, roots)


def _artifact_stores(places: Places, cluster: Cluster) -> list[FolderStore | BucketStore]:
    return _writable(places, [cluster.artifacts] if cluster.artifacts else [])


def _writable(places: Places, roots: list[str]) -> list[FolderStore | BucketStore]:
    stores = (places.store(root) for root in roots)
    return [store for store in stores if isinstance(store, FolderStore | BucketStore)]


def _of_pipelines(places: Places, cluster: Cluster, needed_runs: set[str], before_s: float) -> list[Item]:
    """Artifacts and checkpoints of pipeline runs that no version came from and that nothing was written to of late."""
    why = "of a pipeline run that no version came from"
    items: list[Item] = []
    for store in _artifact_stores(places, cluster):
        by_run: dict[str, list[Entry]] = {}
        for entry in store.entries():
            run = next((part for part in PurePosixPath(entry.name).parts if _KFP_RUN.fullmatch(part)), None)
            if run is not None and run not in needed_runs:
                by_run.setdefault(run, []).append(entry)
        for entries in by_run.values():
            if max(entry.modified_s for entry in entries) < before_s:
                items += [Item("pipeline artifact", found.name, store.root, found.num_bytes, why) for found in entries]
    folder = cluster.checkpoints
    for path in sorted(folder.iterdir()) if folder else ():
        if _KFP_RUN.fullmatch(path.name) and path.name not in needed_runs and _latest_change(path) < before_s:
            items.append(Item("checkpoint", path.name, str(folder), _size(path), why))
    return items


def _in_workdir(places: Places, before_s: float) -> list[Item]:
    """Checkpoints of unfinished stages, downloads, and what old pipeline runs left, in a work directory."""
    if places.workdir is None:
        return []
    state = places.workdir.state
    kinds: list[tuple[Kind, str, str]] = [
        ("checkpoint", "scratch/*/*", "of a stage that did not finish"),
        ("checkpoint", "staging/*", "an output that was not finished"),
        ("download", "fetched/*", "can be fetched again by its reference"),
        ("pipeline artifact", "kfp/*/*", "of an earlier run of the pipeline"),
    ]
    return [
        Item(kind, str(path.relative_to(state)), str(state), _size(path), why)
        for kind, pattern, why in kinds
        for path in sorted(state.glob(pattern))
        if _latest_change(path) < before_s
    ]


def _size(path: Path) -> int:
    return sum(item.stat().st_size for item in (path, *path.rglob("*")) if item.is_file())


def _latest_change(path: Path) -> float:
    return max(item.stat().st_mtime for item in (path, *path.rglob("*")))
