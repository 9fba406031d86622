"""All that differs between clusters stands in one file per overlay, and reaches every place where it counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pathoflow.cluster.settings import Cluster, load_cluster
from tests.manifests.rendering import MANIFESTS, OVERLAYS, Object, name_of, parameters, render_with, rendered

ZEROS, ONES, TWOS = (digit * 64 for digit in "012")
# Two values of each parameter that nothing else holds.
OTHER: dict[str, tuple[str, str]] = {
    "namespace": ("one-namespace", "two-namespace"),
    "cpu_image": (f"one.example/cpu@sha256:{ONES}", f"two.example/cpu@sha256:{TWOS}"),
    "train_image": (f"one.example/train@sha256:{ONES}", f"two.example/train@sha256:{TWOS}"),
    "rl_image": (f"one.example/rl@sha256:{ONES}", f"two.example/rl@sha256:{TWOS}"),
    "postgres_image": (f"one.example/pg@sha256:{ONES}", f"two.example/pg@sha256:{TWOS}"),
    "image_pull_secret": ("one-login", "two-login"),
    "storage_class": ("one-block", "two-block"),
    "shared_storage_class": ("one-file", "two-file"),
    "checkpoints_size": ("1111Gi", "2222Gi"),
    "object_store": ("http://one-store.example:11111", "http://two-store.example:22222"),
    "data_bucket": ("one-data/dvc", "two-data/dvc"),
    "model_bucket": ("one-models/mlflow", "two-models/mlflow"),
    "backup_bucket": ("one-backup/pg", "two-backup/pg"),
    "mlflow": ("http://one-mlflow:5111", "http://two-mlflow:5222"),
    "mlflow_host": ("one-mlflow.example.com", "two-mlflow.example.com"),
    "kfp": ("http://one-pipelines", "http://two-pipelines"),
    "kfp_namespace": ("one-kfp-namespace", "two-kfp-namespace"),
    "monitoring_namespace": ("one-monitoring", "two-monitoring"),
    "queue": ("one-queue", "two-queue"),
    "queue_gpus": ("3110", "4220"),
    "queue_cpu": ("3111", "4221"),
    "queue_memory": ("3112Gi", "4222Ti"),
    "sources_claim": ("one-sources", "two-sources"),
    "fixed_user": ("true", "false"),
    "api_server_cidr": ("11.1.0.0/16", "22.2.0.0/16"),
    "object_store_cidr": ("11.3.0.0/16", "22.4.0.0/16"),
}
ONLY_IN_PIPELINES = {"data_bucket", "kfp", "sources_claim", "fixed_user"}
"""`pathoflow compile` and `submit` read them; nothing that is installed does."""
ONLY_SOMEWHERE = {
    "image_pull_secret": {"single-gpu", "multi-node", "openshift"},
    "train_image": {"multi-node", "openshift"},
    "rl_image": {"multi-node", "openshift"},
    "backup_bucket": {"single-gpu", "multi-node", "openshift"},
    "mlflow_host": {"openshift"},
    **{key: {"multi-node", "openshift"} for key in ("queue", "queue_gpus", "queue_cpu", "queue_memory")},
}
CLUSTER_WIDE = {"Namespace", "ResourceFlavor", "ClusterQueue", "WorkloadPriorityClass"}


def without_parameters(things: list[Object]) -> list[Object]:
    return [thing for thing in things if thing["metadata"]["name"] != "pathoflow-parameters"]


def pieces(value: str) -> tuple[str, ...]:
    """A parameter, and the parts of it that kustomize cuts out."""
    return (value, value.partition("//")[2], value.rpartition(":")[2]) if "//" in value else (value,)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_names_every_parameter_and_no_other(overlay: str) -> None:
    assert set(parameters(overlay)) == set(Cluster.model_fields)
    cluster = load_cluster(MANIFESTS / "overlays" / overlay)
    # KFP's API server, in a namespace of its own, reaches MLflow by this address, too.
    assert f".{cluster.namespace}.svc:" in cluster.mlflow
    assert cluster.object_store.rpartition(":")[2].isdigit(), "the network policies take the port from here"
    assert cluster.placeholders() == ([] if overlay == "local" else ["cpu_image", "train_image", "rl_image"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_changed_parameter_changes_everywhere(overlay: str, tmp_path: Path) -> None:
    assert set(OTHER) == set(Cluster.model_fields)
    first = without_parameters(render_with(overlay, {key: one for key, (one, _) in OTHER.items()}, tmp_path / "1"))
    second = without_parameters(render_with(overlay, {key: two for key, (_, two) in OTHER.items()}, tmp_path / "2"))
    text = json.dumps(sorted(first, key=name_of))
    # Nothing differs but the values of parameters …
    expected = text
    for one, two in OTHER.values():
        for before, after in sorted(zip(pieces(one), pieces(two), strict=True), key=lambda pair: -len(pair[0])):
            if before != "true":
                expected = expected.replace(before, after)
    assert json.loads(expected) == sorted(second, key=name_of)
    # … which are all there …
    present = {key for key, (one, _) in OTHER.items() if any(piece in text for piece in pieces(one))} - {"fixed_user"}
    expected_keys = {
        key for key in OTHER if key not in ONLY_IN_PIPELINES and overlay in ONLY_SOMEWHERE.get(key, OVERLAYS)
    }
    assert present == expected_keys
    # … and no value of the shipped file stayed behind.
    kept = [thing for thing in first if not thing["metadata"]["name"].endswith(("-to-hub", "-to-endpoints"))]
    for key, value in parameters(overlay).items():
        # Labels bear the project's own name, too.
        if len(value) > 5 and value != "pathoflow":
            assert [name_of(thing) for thing in kept if json.dumps(value) in json.dumps(thing)] == [], key


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_in_the_namespace(overlay: str) -> None:
    namespace = parameters(overlay)["namespace"]
    wrong = {
        name_of(thing): thing["metadata"].get("namespace")
        for thing in rendered(overlay)
        if thing["metadata"].get("namespace") != (None if thing["kind"] in CLUSTER_WIDE else namespace)
    }
    assert wrong == {}
    owned = [thing["metadata"]["name"] for thing in rendered(overlay) if thing["kind"] == "Namespace"]
    # A namespace that Kubeflow Pipelines runs in is not ours to label or delete.
    assert owned == ([namespace] if overlay == "multi-node" else [])


def test_numbers_stay_numbers() -> None:
    def port_of(overlay: str) -> Any:
        (policy,) = [t for t in rendered(overlay) if name_of(t) == "NetworkPolicy/allow-runs-to-object-store"]
        return policy["spec"]["egress"][0]["ports"][0]["port"]

    assert (port_of("local"), port_of("multi-node")) == (8333, 443)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_queue_is_named_where_there_is_one(overlay: str) -> None:
    queues = [thing["metadata"]["name"] for thing in rendered(overlay) if thing["kind"] == "LocalQueue"]
    assert queues == ([queue] if (queue := parameters(overlay)["queue"]) else [])
