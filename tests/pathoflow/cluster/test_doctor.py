"""What `pathoflow doctor` finds: on a real control plane, and where there is none."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from kubernetes import client
from typer.testing import CliRunner

from pathoflow.cli import app
from pathoflow.cluster import doctor
from pathoflow.cluster.doctor import examine
from pathoflow.cluster.findings import Finding
from pathoflow.cluster.fitting import Node, why_none_fits
from pathoflow.cluster.settings import (
    CHECKPOINTS_CLAIM,
    MLFLOW_SECRET,
    OBJECT_STORE_SECRET,
    PLACEHOLDER_DIGEST,
    RUNNER_ACCOUNT,
    SECRET_KEYS,
    Cluster,
)
from pathoflow.contract.config import StageConfig
from pathoflow.contract.needs import ENDPOINT_SECRET
from pathoflow.contract.recipe import About, Compute, Recipe, Toleration
from pathoflow.inference.endpoint import Endpoint
from tests.support.kube import api, kubeconfig, make_node, namespace, new_namespace, trainer_crds, wait_until  # noqa: F401
from tests.support.overlays import parameters, write_overlay

SECRET_VALUE = "do-not-print-me"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def levels(findings: list[Any]) -> dict[str, tuple[str, str]]:
    return {finding.what: (finding.level, finding.detail) for finding in findings}


def recipe_of(**compute: Compute) -> Recipe:
    return Recipe("test", About(title="t", description="d"), {}, compute)


def test_a_cluster_that_does_not_answer_is_one_finding_and_exit_11(tmp_path, monkeypatch):
    cluster = {"server": f"https://127.0.0.1:{free_port()}"}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    text = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [context],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(text | {"current-context": "c"}))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    overlay = write_overlay(tmp_path / "overlay", cpu_image=f"a@{PLACEHOLDER_DIGEST}")
    result = CliRunner().invoke(app, ["doctor", "--cluster", str(overlay), "--json"])
    found = {each["what"]: each for each in json.loads(result.stdout)}
    assert result.exit_code == 11
    assert found["images"]["level"] == "failed"
    assert "cpu_image" in found["images"]["detail"]
    assert "the API server does not answer" in found["API server"]["detail"]
    # The services are looked at all the same.
    assert found["MLflow"]["level"] == "unknown"
    other = CliRunner().invoke(app, ["doctor", "--cluster", str(overlay), "--context", "nope"])
    assert "Known contexts: c" in " ".join(other.stdout.split())


@pytest.mark.parametrize(
    ("compute", "amounts", "reason"),
    [
        (Compute(node_selector={"gpu": "yes"}), {}, ""),
        (Compute(node_selector={"gpu": "no"}), {}, "of 1 nodes, 1 lack the labels of node_selector"),
        (Compute(), {"nvidia.com/gpu": 8}, "of 1 nodes, 1 lack nvidia.com/gpu (most: 4 of 8)"),
    ],
)
def test_what_keeps_a_pod_from_a_node_is_named(compute, amounts, reason):
    node = Node("a", {"gpu": "yes"}, [], {"nvidia.com/gpu": Decimal(4)})
    assert why_none_fits([node], compute, {name: Decimal(value) for name, value in amounts.items()}) == reason


def test_a_taint_keeps_out_whoever_does_not_tolerate_it():
    node = Node("a", {}, [client.V1Taint(key="nvidia.com/gpu", effect="NoSchedule")], {})
    assert "a taint that is not tolerated" in why_none_fits([node], Compute(), {})
    assert why_none_fits([node], Compute(tolerations=(Toleration(key="nvidia.com/gpu"),)), {}) == ""
    assert why_none_fits([], Compute(), {}) == "of 0 nodes, none is ready"


class AskingConfig(StageConfig):
    stage: ClassVar[str] = "asking"

    endpoint: Endpoint = Endpoint(url="https://models.example/v1", model="qwen", api_key_variable="QWEN_KEY")


class Secrets:
    """The part of the API that looks for secrets: each holds one key, or the secret of endpoint keys is not there."""

    key: str | None = None

    def __init__(self, _: Any) -> None:
        pass

    def read_namespaced_secret(self, *_: str) -> client.V1Secret:
        if self.key is None:
            raise client.ApiException(404)
        return client.V1Secret(data={self.key: ""})

    def read_namespaced_config_map(self, *_: str) -> None:
        pass


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (None, ("failed", "is not there")),
        ("OTHER_KEY", ("failed", "lacks QWEN_KEY")),
        ("QWEN_KEY", ("ok", "holds QWEN_KEY")),
    ],
)
def test_the_key_of_an_endpoint_that_a_recipe_wants_is_looked_for(monkeypatch, key, found):
    monkeypatch.setattr(client, "CoreV1Api", type("Api", (Secrets,), {"key": key}))
    cluster = Cluster.model_validate(parameters())
    recipe = replace(recipe_of(), stages={"asking": AskingConfig()})
    assert levels(list(doctor._secrets(client.ApiClient(), cluster, recipe)))[f"secret {ENDPOINT_SECRET}"] == found
    assert f"secret {ENDPOINT_SECRET}" not in levels(list(doctor._secrets(client.ApiClient(), cluster, recipe_of())))


@pytest.fixture
def here(kubeconfig: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:  # noqa: F811
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    with socket.socket() as service:
        service.bind(("127.0.0.1", 0))
        port = service.getsockname()[1]
    return Cluster.model_validate(parameters(namespace=namespace, queue="", mlflow=f"http://127.0.0.1:{port}"))


@pytest.fixture
def node(api: client.ApiClient) -> Iterator[dict[str, str]]:  # noqa: F811
    """A node with four GPUs and the label that only this test's pods ask for."""
    name = f"pathoflow-test-{uuid.uuid4().hex[:8]}"
    make_node(api, name, {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "4"}, {name: "true"})
    yield {name: "true"}
    client.CoreV1Api(api).delete_node(name)


@pytest.mark.cluster
def test_what_is_missing_and_what_is_there(api, here, node, trainer_crds):  # noqa: F811
    recipe = recipe_of(
        cpt=Compute(gpus_per_node=8, node_selector=node), sft=Compute(gpus_per_node=4, cpu="16", node_selector=node)
    )
    bare = levels(examine(here, recipe))
    assert bare["service account"] == ("failed", f"there is no {RUNNER_ACCOUNT}")
    assert bare[f"secret {MLFLOW_SECRET}"] == ("failed", "is not there")
    assert bare["storage class fast"][0] == "failed"
    assert bare[f"claim {CHECKPOINTS_CLAIM}"] == ("failed", "is not there")
    # Others may have installed it on this cluster.
    served = {group.name for group in client.ApisApi(api).get_api_versions().groups}
    assert bare["argoproj.io"][0] == ("ok" if "argoproj.io" in served else "failed")
    assert bare["trainer.kubeflow.org"] == ("ok", "serves v1alpha1")
    assert "nvidia.com/gpu (most: 4 of 8)" in bare["nodes for cpt"][1]
    assert bare["nodes for sft"][0] == "ok"
    assert bare["MLflow"][0] == "failed"

    core = client.CoreV1Api(api)
    core.create_namespaced_service_account(here.namespace, {"metadata": {"name": RUNNER_ACCOUNT}})
    for name in (MLFLOW_SECRET, OBJECT_STORE_SECRET):
        keys = SECRET_KEYS[name] if name == MLFLOW_SECRET else SECRET_KEYS[name][:1]
        secret = {"metadata": {"name": name}, "stringData": dict.fromkeys(keys, SECRET_VALUE)}
        core.create_namespaced_secret(here.namespace, secret)
    amount = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"metadata": {"name": CHECKPOINTS_CLAIM}, "spec": amount | {"storageClassName": "none"}}
    core.create_namespaced_persistent_volume_claim(here.namespace, claim)
    every = ["create", "get", "list", "watch", "delete"]
    rules = [
        {"apiGroups": ["trainer.kubeflow.org"], "resources": ["trainjobs"], "verbs": every},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    rights = client.RbacAuthorizationV1Api(api)
    assert levels(examine(here))["service account"][1].startswith(f"{RUNNER_ACCOUNT} may not create trainjobs, get")
    rights.create_namespaced_role(here.namespace, {"metadata": {"name": "r"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": RUNNER_ACCOUNT, "namespace": here.namespace}
    role = {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}
    rights.create_namespaced_role_binding(
        here.namespace, {"metadata": {"name": "b"}, "roleRef": role, "subjects": [subject]}
    )
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "8"}}}
    core.create_namespaced_resource_quota(here.namespace, quota)
    core.patch_namespaced_resource_quota_status("q", here.namespace, {"status": quota["spec"] | {"used": {}}})

    assert levels(examine(here))["service account"] == ("failed", f"{RUNNER_ACCOUNT} may not get pods/log")
    rules.append({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]})
    rights.patch_namespaced_role("r", here.namespace, {"rules": rules})

    findings = examine(here, recipe)
    there = levels(findings)
    assert there["service account"][0] == "ok"
    assert there[f"secret {MLFLOW_SECRET}"][0] == "ok"
    assert there[f"secret {OBJECT_STORE_SECRET}"] == ("failed", "lacks AWS_SECRET_ACCESS_KEY")
    assert there[f"claim {CHECKPOINTS_CLAIM}"] == ("warning", "Pending, ReadWriteMany")
    assert there["quota q"] == ("failed", "sft: cpu: 16 wanted, 8 left")
    assert SECRET_VALUE not in repr(findings)


@pytest.mark.cluster
def test_what_several_nodes_need(api, here, node, trainer_crds):  # noqa: F811
    compute = Compute(nodes=2, gpus_per_node=2, node_selector=node)
    cluster = here.model_copy(update={"queue": "training"})
    found = levels(examine(cluster, recipe_of(cpt=compute)))
    assert found["nodes for cpt"] == ("ok", "2 pods have room now")
    assert found["TrainingRuntime pathoflow-torchrun"] == ("failed", f"is not in {here.namespace}")
    assert "TrainingRuntime pathoflow-rl" not in found
    assert found["queue training"][0] == "failed"
    runtime = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainingRuntime", "spec": {}}
    client.CustomObjectsApi(api).create_namespaced_custom_object(
        "trainer.kubeflow.org",
        "v1alpha1",
        here.namespace,
        "trainingruntimes",
        runtime | {"metadata": {"name": "pathoflow-torchrun"}},
    )
    three = compute.model_copy(update={"nodes": 3})
    found = levels(examine(cluster, recipe_of(cpt=three)))
    assert found["TrainingRuntime pathoflow-torchrun"] == ("ok", "is there")
    assert found["nodes for cpt"][0] == "failed"
    assert found["nodes for cpt"][1].endswith("there is room for 2 of 3 pods")


@pytest.mark.cluster
def test_a_missing_api_and_one_of_another_version(here, trainer_crds, monkeypatch):  # noqa: F811
    apis = {"trainer.kubeflow.org": ("v2", "Kubeflow Trainer"), "absent.example.org": ("v1", "Something")}
    monkeypatch.setattr(doctor, "_APIS", apis)
    without = {finding.what: finding for finding in examine(here)}
    assert without["absent.example.org"][1:3] == ("warning", "is not served")
    assert without["trainer.kubeflow.org"].level == "warning"
    needed = {finding.what: finding for finding in examine(here, recipe_of(cpt=Compute(nodes=2, gpus_per_node=8)))}
    assert needed["trainer.kubeflow.org"] == Finding(
        "trainer.kubeflow.org",
        "failed",
        "serves v1alpha1, and v2 is asked for",
        "Install a version of Kubeflow Trainer that serves v2.",
    )


@pytest.mark.cluster
def test_a_node_that_is_busy_is_no_failure(api, here, node):  # noqa: F811
    [name] = node
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "10"}}}
    pod = {"metadata": {"name": "busy"}, "spec": {"nodeName": name, "containers": [container]}}
    with new_namespace(api) as other:
        client.CoreV1Api(api).create_namespaced_pod(other, pod)
        found = levels(examine(here, recipe_of(corpus=Compute(cpu="8", node_selector=node))))
    level, detail = found["nodes for corpus"]
    assert level == "warning"
    assert "lack cpu (most: 6 of 8)" in detail


@pytest.mark.cluster
def test_an_expired_token_is_told_with_a_remedy(kubeconfig, here, tmp_path, monkeypatch):  # noqa: F811
    text = yaml.safe_load(Path(kubeconfig).read_text())
    text["users"][0]["user"] = {"token": "expired"}
    (tmp_path / "config").write_text(yaml.safe_dump(text))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    found = levels(examine(here))
    assert found["API server"][0] == "failed"
    assert "The token has expired or belongs to another cluster" in found["API server"][1]
