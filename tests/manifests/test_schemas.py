"""Every object that an overlay renders is one that the API servers of our range would take."""

from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime
from pydantic import ValidationError

from tests.manifests import custom_resources
from tests.manifests.pods import pipelines_of, pods_of, pods_of_pipeline
from tests.manifests.rendering import MANIFESTS, OVERLAYS, name_of, rendered

OLDEST, NEWEST = "1.32.0", kubernetes_validate.latest_version()


def is_built_in(thing: dict[str, Any]) -> bool:
    group = thing["apiVersion"].rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and not group.startswith("kueue."))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_of_kubernetes_itself(overlay: str, version: str) -> None:
    things = [thing for thing in rendered(overlay) if is_built_in(thing)]
    assert len(things) > 20
    for thing in things:
        kubernetes_validate.validate(thing, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_of_runtimes_and_pipelines(overlay: str) -> None:
    pods = pods_of(rendered(overlay)) + [pod for path in pipelines_of(overlay) for pod in pods_of_pipeline(path)]
    for pod in pods:
        metadata = {"name": "pod", "labels": pod.labels}
        thing = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.spec}
        kubernetes_validate.validate(thing, NEWEST, strict=True)


@pytest.mark.parametrize("overlay", ["multi-node", "openshift"])
def test_training_runtimes(overlay: str) -> None:
    runtimes = [thing for thing in rendered(overlay) if thing["kind"] == "TrainingRuntime"]
    assert {runtime["metadata"]["name"] for runtime in runtimes} == {"pathoflow-torchrun", "pathoflow-rl"}
    for runtime in runtimes:
        check_runtime(runtime)


def check_runtime(runtime: dict[str, Any]) -> None:
    """The model takes it, and drops nothing: a field that it does not know would be gone."""
    made = TrainerV1alpha1TrainingRuntime.from_dict(runtime)
    assert made is not None
    assert made.to_dict() == runtime


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_of_operators(overlay: str) -> None:
    for thing in rendered(overlay):
        if not is_built_in(thing) and thing["kind"] != "TrainingRuntime":
            custom_resources.check(thing)


def test_an_unknown_field_is_caught() -> None:
    things = {name_of(thing): thing for thing in copy.deepcopy(rendered("multi-node"))}
    things["Deployment/pathoflow-mlflow"]["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(things["Deployment/pathoflow-mlflow"], NEWEST, strict=True)
    runtime = things["TrainingRuntime/pathoflow-rl"]
    runtime["spec"]["mlPolicy"]["torch"] = {"numProcPerNode": "auto"}
    with pytest.raises(AssertionError):
        check_runtime(runtime)
    things["ClusterQueue/pathoflow-training"]["spec"]["cohort"] = "all"
    with pytest.raises(ValidationError, match="cohort"):
        custom_resources.check(things["ClusterQueue/pathoflow-training"])


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in MANIFESTS.rglob("kustomization.yaml"):
        made = yaml.safe_load(path.read_text(encoding="utf-8"))
        for place in [*made.get("resources", []), *made.get("components", [])]:
            assert (path.parent / place).exists(), f"{path}: {place}"
