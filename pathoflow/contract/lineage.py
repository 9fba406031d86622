"""Collects the references of all outputs that a model stands on, from MLflow's runs, when a version is registered.

A version has to be checked by someone who has nothing but the registry. Its manifest names the identities of its
inputs; the references say where those lie.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import TypeAdapter, ValidationError

from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import MANIFEST_FILE, Manifest, read_manifest
from pathoflow.errors import SealError
from pathoflow.stores.tracking import IDENTITY_TAG, REFERENCE_TAG

LINEAGE_TAG = "pathoflow.lineage"
"""Tag of a model version: the references of all that it stands on, as a JSON list."""

_REFERENCES = TypeAdapter(tuple[Reference, ...])


def ancestors(client: MlflowClient, manifests: Iterable[Manifest]) -> tuple[list[Reference], list[str]]:
    """Walks from sealed outputs to all that they stand on, through the runs that made it.

    Args:
        client: Client of the tracking server on which the stages ran.
        manifests: Where the walk begins.

    Returns:
        The references of the outputs and of their ancestors in the order of the walk, and `stage identity` of those
        for which no run is known.
    """
    references: list[Reference] = []
    unknown: list[str] = []
    waiting = [(manifest.stage, manifest.identity) for manifest in manifests]
    seen = set(waiting)
    while waiting:
        stage, identity = waiting.pop(0)
        run = find_run(client, identity)
        manifest = logged_manifest(client, run) if run else None
        if run is None or manifest is None or manifest.identity != identity:
            unknown.append(f"{stage} {identity}")
            continue
        references.append(Reference.model_validate_json(run.data.tags[REFERENCE_TAG]))
        for source in manifest.inputs.items():
            if source not in seen:
                seen.add(source)
                waiting.append(source)
    return references, unknown


def find_run(client: MlflowClient, identity: str) -> Run | None:
    """Returns the latest finished run that published the output with this identity."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`{IDENTITY_TAG}` = '{identity}' and attributes.status = 'FINISHED'"
    for run in client.search_runs(experiments, query):
        if REFERENCE_TAG in run.data.tags:
            return run
    return None


def logged_manifest(client: MlflowClient, run: Run) -> Manifest | None:
    """Returns the manifest that a run logged; None if it is missing or was changed."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            client.download_artifacts(run.info.run_id, MANIFEST_FILE, folder)
            return read_manifest(Path(folder))
        except (MlflowException, OSError, SealError):
            return None


def write_references(references: Iterable[Reference]) -> str:
    """Serialises references for the lineage tag."""
    return _REFERENCES.dump_json(tuple(references), exclude_none=True).decode()


def read_references(text: str) -> tuple[Reference, ...]:
    """Parses the references in a lineage tag.

    Raises:
        SealError: The tag is not as it was written.
    """
    try:
        return _REFERENCES.validate_json(text)
    except ValidationError as error:
        raise SealError(f"The tag {LINEAGE_TAG} is damaged. Register the model again.") from error
