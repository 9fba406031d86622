"""Checks of a stage's MLflow run against the manifest of the stage's output."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities import Run

from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import MANIFEST_FILE, Manifest, parse_manifest
from pathoflow.errors import SealError
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.stores import MissingError, UnreachableError, read_sound
from pathoflow.stores.tracking import IDENTITY_TAG, as_param


def load_run(places: Places, run_id: str | None, links: Links) -> Run | None:
    """Loads the run, if MLflow has it; of a run in its waste bin the next clean-up takes the artifacts."""
    if not run_id:
        links.unknown("run", "no MLflow run is recorded", "lineage")
        return None
    where = f"run {run_id}"
    try:
        run = places.run(run_id)
    except MissingError:
        links.unknown("run", "is gone from MLflow", where)
        return None
    except UnreachableError as error:
        links.unknown("run", f"cannot be looked up: {error}", where)
        return None
    if run.info.lifecycle_stage != "active":
        links.unknown(
            "run",
            f"is deleted, and `mlflow gc` will take its artifacts. Restore it: `mlflow runs restore --run-id {run_id}`",
            where,
        )
    return run


def logged_manifest(places: Places, run: Run, identity: str, links: Links) -> Manifest | None:
    """Returns the copy of the manifest that the run logged."""
    where = f"run {run.info.run_id}, {MANIFEST_FILE}"
    try:
        store = places.store(run.info.artifact_uri)
        where = f"{store.root}/{MANIFEST_FILE}"
        manifest = read_sound(store, MANIFEST_FILE, parse_manifest)
    except MissingError:
        links.unknown("manifest in MLflow", "is missing", where)
    except UnreachableError as error:
        links.unknown("manifest in MLflow", f"cannot be read: {error}", where)
    except SealError as error:
        links.failed("manifest in MLflow", f"{MANIFEST_FILE} {error}", where)
    else:
        links.equal("manifest in MLflow", manifest.identity, identity, where, told_by="the version's lineage")
        return manifest if manifest.identity == identity else None
    return None


def check_run(places: Places, run: Run, manifest: Manifest, references: Mapping[str, Reference], links: Links) -> None:
    """Compares a run's tags, parameters, figures and inputs with the manifest.

    Args:
        places: Where to look further.
        run: The run.
        manifest: Of the output that the run published.
        references: Of the manifest's inputs, by identity.
        links: Gets what was found.
    """
    where = f"run {run.info.run_id}"
    tags = run.data.tags
    expected = {
        IDENTITY_TAG: manifest.identity,
        "pathoflow.config_digest": manifest.config_digest,
        "pathoflow.code_commit": manifest.code.commit or "unknown",
        **{f"pathoflow.note.{name}": value for name, value in manifest.notes.items()},
    }
    for name, value in expected.items():
        if tags.get(name) != value:
            links.equal("run's tags", tags.get(name), value, f"{where}, tag {name}", told_by="the manifest")
    for name, value in manifest.config.items():
        if run.data.params.get(name) != as_param(value):
            links.equal(
                "run's parameters",
                run.data.params.get(name),
                as_param(value),
                f"{where}, parameter {name}",
                told_by="the manifest",
            )
    _check_figures(places, run, manifest, links)
    _check_inputs(run, manifest, references, links)
    if not any(link.check.startswith("run's") for link in links.found):
        links.passed("run", "its tags, parameters, figures and inputs are the manifest's", where)


def _check_figures(places: Places, run: Run, manifest: Manifest, links: Links) -> None:
    for name, value in manifest.metrics.items():
        latest = run.data.metrics.get(name)
        if latest == value:
            continue
        where = f"run {run.info.run_id}, metric {name}"
        if latest is None:
            links.unknown("run's figures", f"is missing; the manifest says {value:g}", where)
            continue
        # A series of the same name has later points than the final figure.
        try:
            points = places.metric_history(run.info.run_id, name)
        except (MissingError, UnreachableError) as error:
            links.unknown("run's figures", f"cannot be looked up: {error}", where)
            continue
        if not any(point.value == value for point in points if point.timestamp == 0):
            links.failed("run's figures", f"says {latest:g}, but the manifest says {value:g}", where)


def _check_inputs(run: Run, manifest: Manifest, references: Mapping[str, Reference], links: Links) -> None:
    datasets = {item.dataset.name: item for item in run.inputs.dataset_inputs}
    for name, identity in manifest.inputs.items():
        where = f"run {run.info.run_id}, data set {name}"
        if name not in datasets:
            links.unknown("run's inputs", f"is missing; the manifest says {identity}", where)
            continue
        tagged = {tag.key: tag.value for tag in datasets[name].tags}.get(IDENTITY_TAG)
        if tagged != identity:
            links.equal("run's inputs", tagged, identity, where, told_by="the manifest")
        reference = references.get(identity)
        digest = (reference.dvc_md5 if reference else None) or identity
        if reference and datasets[name].dataset.digest != digest[:36]:
            links.failed(
                "run's inputs", f"has digest {datasets[name].dataset.digest}, but {digest[:36]} is recorded", where
            )
