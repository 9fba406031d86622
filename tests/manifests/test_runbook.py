"""The runbook's blocks on a real API server: secrets, installation, and an uninstallation that keeps what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from tests.manifests import runbook
from tests.manifests.rendering import MANIFESTS
from tests.support.kube import wait_until

pytestmark = pytest.mark.cluster

# The API server of the tests may be older than this kind.
WITHOUT_BUDGET = """
patches:
  - target: {kind: PodDisruptionBudget}
    patch: |-
      apiVersion: policy/v1
      kind: PodDisruptionBudget
      metadata: {name: any}
      $patch: delete
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, namespace: str) -> Path:
    """A copy of the manifests, as somebody fills it in for a namespace."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(MANIFESTS, folder / "manifests")
    overlay = folder / "manifests" / "overlays" / "local"
    document = yaml.safe_load((overlay / "parameters.yaml").read_text(encoding="utf-8"))
    document["data"]["namespace"] = namespace
    (overlay / "parameters.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with (overlay / "kustomization.yaml").open("a", encoding="utf-8") as file:
        file.write(WITHOUT_BUDGET)
    for example in (folder / "manifests" / "secrets").glob("*.env.example"):
        filled = example.read_text(encoding="utf-8").replace("=\n", "=filled in\n")
        example.with_suffix("").write_text(filled, encoding="utf-8")
    for name in ("registrar.key", "registrar.pub"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def run(checkout: Path, kubeconfig: Path, namespace: str) -> Callable[[str], str]:
    def run_block(name: str) -> str:
        variables = {"KUBECONFIG": str(kubeconfig), "NAMESPACE": namespace, "OVERLAY": "manifests/overlays/local"}
        return runbook.run(name, checkout, **variables)

    return run_block


def test_install_and_uninstall(run: Callable[[str], str], api: client.ApiClient, namespace: str) -> None:
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    run("secrets")
    made = {secret.metadata.name: set(secret.data or {}) for secret in core.list_namespaced_secret(namespace).items}
    assert made["pathoflow-postgres"] == {"POSTGRES_PASSWORD", "MLFLOW_PASSWORD"}
    assert {"pathoflow-mlflow", "pathoflow-mlflow-server", "pathoflow-object-store", "pathoflow-hub"} <= set(made)

    run("apply")
    assert apps.read_namespaced_stateful_set("pathoflow-postgres", namespace).spec.replicas == 1
    (policies,) = (client.NetworkingV1Api(api).list_namespaced_network_policy(namespace).items,)
    assert "default-deny" in {policy.metadata.name for policy in policies}
    # Again, as at an upgrade: nothing is in the way.
    assert "serverside-applied" in run("apply")

    def claims() -> set[str]:
        return {claim.metadata.name for claim in core.list_namespaced_persistent_volume_claim(namespace).items}

    both = {"pathoflow-checkpoints", "data-pathoflow-postgres-0"}
    wait_until(lambda: claims() == both)
    run("uninstall")
    assert apps.list_namespaced_deployment(namespace).items == []
    assert client.NetworkingV1Api(api).list_namespaced_network_policy(namespace).items == []
    assert client.RbacAuthorizationV1Api(api).list_namespaced_role(namespace).items == []
    assert claims() == both
    assert "pathoflow-postgres" in {secret.metadata.name for secret in core.list_namespaced_secret(namespace).items}
    assert core.read_namespace(namespace).status.phase == "Active"
    run("forget")
    assert claims() == set()
