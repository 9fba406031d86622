"""Registers the trained model as a version in MLflow's registry, with its lineage as tags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from components.deployment.register.config import RegisterConfig
from pathoflow.contract.lineage import LINEAGE_TAG, ancestors, write_references
from pathoflow.contract.output import StageOutput
from pathoflow.contract.sealing import Manifest, read_manifest
from pathoflow.errors import InputError, SignatureError, StageError
from pathoflow.governance.registry.access import Registry, local_key, make_throwaway_key
from pathoflow.governance.registry.registration import register_version
from pathoflow.stores.tracking import IDENTITY_TAG, Tracker


def run(config: RegisterConfig, *, vqa_benchmarks: Path, pathoclip: Path, out: StageOutput, **models: Path) -> None:
    """Creates a version of `<model_name>.dev` that points at the model's bytes in MLflow; the bytes do not move.

    A version that already stands for the same model and scores is found again instead of made twice. It is signed,
    gets its model card, stands in the decision log, and becomes the champion of dev.

    Args:
        config: The registered model's name, and the stage that trained it.
        vqa_benchmarks: Scores of the model.
        pathoclip: PathoCLIP of the same run; its identity and retrieval figures become tags.
        out: Gets `registration.json` and the note `model_version`.
        models: Trained models by stage; that of `config.model_stage` is registered.

    Raises:
        InputError: The model was not trained.
        StageError: The model was never logged to this tracking server.
        SignatureError: There is no key to sign with, or it will not do.
    """
    registry = _registry(config)
    tracker = Tracker(os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_EXPERIMENT_NAME"])
    if config.model_stage not in models:
        raise InputError(f"register needs the sealed output of {config.model_stage}. Run {config.model_stage} first.")
    model = read_manifest(models[config.model_stage])
    others = {manifest.stage: manifest for manifest in map(read_manifest, (vqa_benchmarks, pathoclip))}
    logged = tracker.find_model(model.identity)
    if logged is None:
        raise StageError(
            f"The model {model.identity} is not in MLflow at {tracker.uri}. Run the {model.stage} stage again against "
            "that server."
        )
    run_id, source = logged
    references, unknown = ancestors(tracker.client, (*others.values(), model))
    tags = lineage_tags(model, others) | dvc_tags(tracker.client, run_id)
    name = f"{config.model_name}.dev"
    found = _find(tracker.client, name, tags) or _create(tracker.client, name, source, run_id, tags)
    # A local store gives a number here, a server a text.
    version = int(found.version)
    if LINEAGE_TAG not in found.tags:
        tracker.client.set_model_version_tag(name, str(version), LINEAGE_TAG, write_references(references))
    stands_on = {reference.stage: reference.identity for reference in references}
    register_version(registry, config.model_name, version, model, others, stands_on, config.license)
    out.num_in, out.num_out = 1, 1
    out.metric("model_version", version)
    for figure, value in others["vqa_benchmarks"].metrics.items():
        out.metric(figure, value)
    out.note("model_version", f"{name} version {version}")
    out.save_json("registration.json", {"name": name, "version": version, "tags": tags, "unknown": unknown})


def _registry(config: RegisterConfig) -> Registry:
    """Opens the registry, with a key to sign with."""
    registry = Registry.from_environment()
    if config.signing == "throwaway":
        if registry.workdir is None:
            raise SignatureError(
                "register.signing is throwaway, which is for local runs. Name a key in PATHOFLOW_SIGNING_KEY, and set "
                "register.signing=key."
            )
        make_throwaway_key(registry.workdir.root)
        registry = Registry.from_environment(local_key(registry.workdir.root))
    registry.require_key()
    return registry


def lineage_tags(model: Manifest, others: Mapping[str, Manifest]) -> dict[str, str]:
    """Returns tags that lead from a version back to its data, code and configuration.

    Args:
        model: Manifest of the model.
        others: Manifests of its scores and of PathoCLIP, by stage.
    """
    manifests = {**others, model.stage: model}
    identities = {name: identity for manifest in manifests.values() for name, identity in manifest.inputs.items()}
    identities |= {stage: manifest.identity for stage, manifest in manifests.items()}
    figures = others["vqa_benchmarks"].metrics | {
        f"pathoclip_{name}": value for name, value in others["pathoclip"].metrics.items()
    }
    return {
        IDENTITY_TAG: model.identity,
        "pathoflow.config_digest": model.config_digest,
        "pathoflow.code_commit": model.code.commit or "unknown",
        "pathoflow.code_dirty": str(model.code.dirty).lower(),
        "pathoflow.image_digest": model.image_digest or "none",
        "pathoflow.kfp_run_id": os.environ.get("KFP_RUN_ID", "local"),
        **{f"pathoflow.identity.{stage}": identity for stage, identity in sorted(identities.items())},
        **{f"metric.{name}": f"{value:.6g}" for name, value in sorted(figures.items())},
    }


def dvc_tags(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Returns DVC digests of the data sets that the model's run recorded as its inputs."""
    inputs = client.get_run(run_id).inputs.dataset_inputs
    return {
        f"pathoflow.dvc.{item.dataset.name}": item.dataset.digest
        for item in inputs
        if item.dataset.digest.endswith(".dir")
    }


def _find(client: MlflowClient, name: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """Finds the version that stands for the same model, scores and lineage."""
    keys = [key for key in tags if key.startswith(IDENTITY_TAG)]
    for version in client.search_model_versions(f"name = '{name}'"):
        if all(version.tags.get(key) == tags[key] for key in keys):
            return version
    return None


def _create(client: MlflowClient, name: str, source: str, run_id: str, tags: dict[str, str]) -> ModelVersion:
    try:
        client.create_registered_model(name, description="Patho-R1 models as training leaves them. Research use only.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    previous = client.search_model_versions(f"name = '{name}'", max_results=1, order_by=["version_number DESC"])
    parent = f"{name}/{previous[0].version}" if previous else "none"
    return client.create_model_version(name, source, run_id, tags=tags | {"pathoflow.parent_version": parent})
