"""A real scheduler finds a node for every pod of the recipes where one fits, and says why where none does."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from kubernetes import client

from pathoflow.cluster.settings import ROLLOUT_RUNTIME, RUNNER_ACCOUNT, TORCHRUN_RUNTIME, TRAINER_ACCOUNT
from pathoflow.cluster.trainjob_spec import TrainJobRequest
from pathoflow.contract.recipe import Toleration
from tests.manifests.pods import Pod, pods_of, pods_of_pipeline
from tests.manifests.rendering import rendered
from tests.support.kube import api, kubeconfig, make_node, namespace, wait_until
from tools.golden import PIPELINES

__all__ = ["api", "kubeconfig", "namespace"]

pytestmark = pytest.mark.cluster

GPU = "nvidia.com/gpu"
EIGHT_GPUS = {"cpu": "96", "memory": "1152Gi", GPU: "8"}
FOUR_GPUS = {"cpu": "96", "memory": "1152Gi", GPU: "4"}
LITTLE_MEMORY = {"cpu": "96", "memory": "192Gi", GPU: "8"}
NO_GPUS = {"cpu": "32", "memory": "256Gi"}
LAPTOP = {"cpu": "4", "memory": "14Gi"}
PRESENT = {"nvidia.com/gpu.present": "true"}
TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}


@dataclass
class Cluster:
    """Nodes of a test's own, in a cluster that others may use at the same time."""

    api: client.ApiClient
    namespace: str
    mark: str = field(default_factory=lambda: f"pathoflow-test-{uuid.uuid4().hex[:8]}")
    nodes: list[str] = field(default_factory=list)

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    def add_node(
        self, amounts: dict[str, str], labels: dict[str, str] | None = None, taints: Sequence[dict[str, str]] = ()
    ) -> str:
        """A node that this test's pods alone may go to."""
        name = f"{self.mark}-{len(self.nodes)}"
        self.nodes.append(name)
        own = {"key": self.mark, "effect": "NoSchedule"}
        make_node(self.api, name, amounts, (labels or {}) | {self.mark: "true"}, [own, *taints])
        return name

    def add_pod(self, pod: Pod) -> str:
        """Creates a pod that may go to this test's nodes only. What storage there is, is not the question."""
        spec = copy.deepcopy(pod.spec)
        spec["nodeSelector"] = spec.get("nodeSelector", {}) | {self.mark: "true"}
        spec["tolerations"] = [*spec.get("tolerations", []), {"key": self.mark, "operator": "Exists"}]
        for volume in spec.get("volumes", []):
            if volume.pop("persistentVolumeClaim", None):
                volume["emptyDir"] = {}
        made = self.core.create_namespaced_pod(
            self.namespace, {"metadata": {"generateName": "pod-", "labels": pod.labels}, "spec": spec}
        )
        return str(made.metadata.name)

    def verdict(self, name: str) -> str:
        """The node that a pod was put on, or the scheduler's reason why there is none."""

        def said() -> str:
            pod = self.core.read_namespaced_pod(name, self.namespace)
            conditions = {condition.type: condition for condition in pod.status.conditions or []}
            told = conditions.get("PodScheduled")
            return str(pod.spec.node_name or (told.message if told and told.reason == "Unschedulable" else ""))

        return str(wait_until(said, 20))

    def try_pod(self, pod: Pod) -> str:
        name = self.add_pod(pod)
        try:
            return self.verdict(name)
        finally:
            self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)

    def close(self) -> None:
        self.core.delete_collection_namespaced_pod(self.namespace, grace_period_seconds=0)
        for node in self.nodes:
            self.core.delete_node(node)


@contextmanager
def nodes(api: client.ApiClient, namespace: str) -> Iterator[Cluster]:
    cluster = Cluster(api, namespace)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(api: client.ApiClient, accounts: str) -> Iterator[Cluster]:
    with nodes(api, accounts) as made:
        yield made


@pytest.fixture(scope="module")
def accounts(api: client.ApiClient, namespace: str) -> str:
    """The namespace, with the accounts that pods run as."""
    core = client.CoreV1Api(api)
    for name in (RUNNER_ACCOUNT, TRAINER_ACCOUNT):
        core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
    return namespace


def pipeline(name: str) -> list[Pod]:
    (found,) = (pipeline for pipeline in PIPELINES if pipeline.name == name)
    return pods_of_pipeline(found)


def asks_for_gpus(pod: Pod) -> bool:
    return any(GPU in container["resources"]["limits"] for container in pod.containers)


def test_the_smoke_recipe_runs_on_a_laptop(cluster: Cluster) -> None:
    node = cluster.add_node(LAPTOP)
    assert {pod.component: cluster.try_pod(pod) for pod in pipeline("smoke.local")} == dict.fromkeys(
        {pod.component for pod in pipeline("smoke.local")}, node
    )


@pytest.mark.parametrize("name", ["paper_3b.single-gpu", "paper_7b.multi-node", "paper_7b.openshift"])
def test_the_papers_recipes_go_where_there_are_gpus_and_only_with_what_needs_them(name: str, cluster: Cluster) -> None:
    with_gpus = cluster.add_node(EIGHT_GPUS, labels=PRESENT, taints=[TAINT])
    without = cluster.add_node(NO_GPUS)
    found = {pod.component: cluster.try_pod(pod) for pod in pipeline(name)}
    expected = {pod.component: with_gpus if asks_for_gpus(pod) else without for pod in pipeline(name)}
    assert found == expected
    assert {"cpt", "sft", "rl"} <= {component for component, node in found.items() if node == with_gpus}


@pytest.mark.parametrize("name", ["paper_3b.single-gpu", "paper_7b.multi-node"])
def test_a_node_that_does_not_fit_is_named_as_such(name: str, cluster: Cluster) -> None:
    stages = {pod.component: pod for pod in pipeline(name)}
    cluster.add_node(FOUR_GPUS, labels=PRESENT)
    assert "Insufficient nvidia.com/gpu" in cluster.try_pod(stages["cpt"])
    cluster.close()
    cluster.nodes.clear()
    cluster.add_node(LITTLE_MEMORY, labels=PRESENT)
    assert "Insufficient memory" in cluster.try_pod(stages["rl"])


def test_a_node_without_the_label_or_with_another_taint_is_none(cluster: Cluster) -> None:
    cpt = next(pod for pod in pipeline("paper_7b.multi-node") if pod.component == "cpt")
    cluster.add_node(EIGHT_GPUS)
    assert "didn't match" in cluster.try_pod(cpt)
    cluster.add_node(EIGHT_GPUS, labels=PRESENT, taints=[{"key": "reserved", "effect": "NoSchedule"}])
    assert "taint {reserved: }" in cluster.try_pod(cpt)
    untolerant = copy.deepcopy(cpt)
    untolerant.spec["tolerations"] = []
    cluster.add_node(EIGHT_GPUS, labels=PRESENT, taints=[TAINT])
    assert f"taint {{{GPU}: present}}" in cluster.try_pod(untolerant)


def workers_of(request: TrainJobRequest, overlay: str = "multi-node") -> list[Pod]:
    """The pods of a TrainJob, as Kubeflow Trainer makes them of its runtime."""
    pods = []
    for template in pods_of(rendered(overlay)):
        if not template.where.startswith(f"TrainingRuntime/{request.runtime}/"):
            continue
        if template.component != "trainer":
            pods.append(template)
            continue
        pod = copy.deepcopy(template)
        amounts = {"cpu": request.cpu, "memory": request.memory, request.gpu_resource: str(request.gpus_per_node)}
        pod.spec["containers"][0]["resources"] = {"requests": amounts, "limits": amounts}
        pod.spec["nodeSelector"] = request.node_selector
        pod.spec["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in request.tolerations]
        pods += [pod] * request.nodes
    return pods


def wish(cluster: Cluster, runtime: str, gpus_per_node: int) -> TrainJobRequest:
    """A training over two nodes with GPUs."""
    return TrainJobRequest(
        nodes=2,
        gpus_per_node=gpus_per_node,
        cpu="64",
        memory="768Gi",
        image="train",
        namespace=cluster.namespace,
        runtime=runtime,
        node_selector=PRESENT,
        tolerations=(Toleration(key=GPU),),
    )


def test_the_workers_of_a_trainjob_take_a_node_each(cluster: Cluster) -> None:
    workers = workers_of(wish(cluster, TORCHRUN_RUNTIME, gpus_per_node=8))
    assert len(workers) == 2
    first = cluster.add_node(EIGHT_GPUS, labels=PRESENT, taints=[TAINT])
    names = [cluster.add_pod(worker) for worker in workers]
    verdicts = sorted((cluster.verdict(name) for name in names), key=lambda text: text != first)
    assert verdicts[0] == first
    assert "Insufficient nvidia.com/gpu" in verdicts[1]
    # A second node comes, and the scheduler looks again.
    second = cluster.add_node(EIGHT_GPUS, labels=PRESENT, taints=[TAINT])
    wait_until(lambda: {cluster.verdict(name) for name in names} == {first, second}, 30)


def test_the_rollouts_server_has_a_gpu_of_its_own(cluster: Cluster) -> None:
    pods = workers_of(wish(cluster, ROLLOUT_RUNTIME, gpus_per_node=7))
    assert sorted(pod.component for pod in pods) == ["rollout", "trainer", "trainer"]
    two = {cluster.add_node(EIGHT_GPUS, labels=PRESENT, taints=[TAINT]) for _ in range(2)}
    assert {cluster.verdict(cluster.add_pod(pod)) for pod in pods} == two
