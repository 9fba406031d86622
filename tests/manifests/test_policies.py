"""Every policy holds for every overlay and its pipelines, and catches an object that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.manifests import policies
from tests.manifests.pods import pipelines_of, pods_of, pods_of_pipeline
from tests.manifests.policies import POLICIES, Policy, World
from tests.manifests.rendering import OVERLAYS, rendered


def world_of(overlay: str) -> World:
    objects = rendered(overlay)
    pods = pods_of(objects)
    for pipeline in pipelines_of(overlay):
        pods += pods_of_pipeline(pipeline)
    return World(overlay, objects, pods)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_it_holds(policy: Policy, overlay: str) -> None:
    assert policy(world_of(overlay)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_has_a_compiled_pipeline(overlay: str) -> None:
    pods = [pod for path in pipelines_of(overlay) for pod in pods_of_pipeline(path)]
    assert {"corpus", "cpt", "rl"} <= {pod.component for pod in pods}


Mutation = Callable[[World], None]


def change(kind: str, name: str, *path: str | int, to: Any) -> Mutation:
    """Sets a field of an object; `...` as the value removes it."""

    def mutate(world: World) -> None:
        (thing,) = [t for t in world.of_kind(kind) if t["metadata"]["name"] == name]
        _set(thing, path, to)

    return mutate


def change_pod(where: str, *path: str | int, to: Any) -> Mutation:
    """Sets a field of the spec of the first pod whose name ends so."""

    def mutate(world: World) -> None:
        _set(next(pod.spec for pod in world.pods if pod.where.endswith(where)), path, to)

    return mutate


def _set(thing: Any, path: tuple[str | int, ...], to: Any) -> None:
    for key in path[:-1]:
        thing = thing.setdefault(key, {}) if isinstance(thing, dict) else thing[key]
    if to is ...:
        del thing[path[-1]]
    elif path[-1] == "+":
        thing.append(to)
    else:
        thing[path[-1]] = to


def add(thing: dict[str, Any]) -> Mutation:
    return lambda world: world.objects.append(
        {"metadata": {"labels": {"app.kubernetes.io/part-of": "pathoflow"}, "name": "x"}} | thing
    )


def relabel(where: str, **labels: str) -> Mutation:
    def mutate(world: World) -> None:
        next(pod for pod in world.pods if pod.where.endswith(where)).labels.clear()

    return mutate


MLFLOW, POSTGRES, BACKUP = "Deployment/pathoflow-mlflow", "StatefulSet/pathoflow-postgres", "CronJob/pathoflow-backup"
NODE, ROLLOUT = "pathoflow-torchrun/node", "pathoflow-rl/rollout"
CPT, CORPUS = "/exec-cpt", "/exec-corpus"
C, CONTEXT, RUNNER = ("containers", 0), ("containers", 0, "securityContext"), ("Role", "pathoflow-runner", "rules")
RULE: dict[str, Any] = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
GPU = ("containers", 0, "resources", "limits", "nvidia.com/gpu")
TOKEN = {"name": "HF_TOKEN", "value": "hf_abc"}
LOGIN = {"name": "STORE", "value": "http://me:word@s3:9000"}
OPEN_POLICY = {"kind": "NetworkPolicy", "metadata": {"name": "allow-all", "labels": {}}}
NARROW = {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Egress"]}
EXTERNAL = {"kind": "RoleBinding", "roleRef": {"kind": "ClusterRole", "name": "admin"}}


def policy_with(name: str, description: str, spec: dict[str, Any]) -> Mutation:
    annotations = {"kubernetes.io/description": description}
    return add({"kind": "NetworkPolicy", "metadata": {"name": name, "annotations": annotations}, "spec": spec})


MUTATIONS: list[tuple[Policy, Mutation, str]] = [
    (policies.pods_are_restricted, change_pod(CPT, *CONTEXT, "runAsNonRoot", to=...), "may run as root"),
    (policies.pods_are_restricted, change_pod(CORPUS, *CONTEXT, "runAsUser", to=0), "runs as root"),
    (policies.pods_are_restricted, change_pod(MLFLOW, "securityContext", "seccompProfile", to={}), "seccomp"),
    (policies.pods_are_restricted, change_pod(NODE, *CONTEXT, "allowPrivilegeEscalation", to=...), "gain privileges"),
    (policies.pods_are_restricted, change_pod(NODE, *CONTEXT, "privileged", to=True), "privileged"),
    (policies.pods_are_restricted, change_pod(POSTGRES, *CONTEXT, "capabilities", to={}), "capabilities"),
    (
        policies.pods_are_restricted,
        change_pod(ROLLOUT, *CONTEXT, "capabilities", "add", to=["NET_RAW"]),
        "capabilities",
    ),
    (policies.pods_are_restricted, change_pod(BACKUP, "initContainers", 0, "securityContext", to={}), "dump may gain"),
    (policies.pods_are_restricted, change_pod(MLFLOW, "hostNetwork", to=True), "hostNetwork"),
    (policies.pods_are_restricted, change_pod(NODE, "volumes", 0, to={"name": "d", "hostPath": {}}), "hostPath"),
    (policies.pods_are_restricted, change_pod(MLFLOW, *C, "ports", 0, "hostPort", to=80), "port of the node"),
    (policies.pods_are_restricted, change_pod(MLFLOW, *CONTEXT, "procMount", to="Unmasked"), "/proc"),
    (policies.pods_are_restricted, change_pod(MLFLOW, "securityContext", "sysctls", to=[1]), "sysctls"),
    (policies.roots_are_read_only, change_pod(NODE, *CONTEXT, "readOnlyRootFilesystem", to=...), "node"),
    (
        policies.users_are_numbers_of_the_image_or_the_cluster,
        change_pod(CPT, *CONTEXT, "runAsUser", to=...),
        "names no user",
    ),
    (policies.rights_are_least, change(*RUNNER, "+", to=RULE | {"verbs": ["*"]}), "wildcard"),
    (policies.rights_are_least, change(*RUNNER, "+", to=RULE | {"resources": ["*"]}), "wildcard"),
    (policies.rights_are_least, change(*RUNNER, "+", to=RULE | {"apiGroups": ["*"]}), "wildcard"),
    (policies.rights_are_least, change(*RUNNER, "+", to=RULE | {"verbs": ["impersonate"]}), "more rights"),
    (policies.rights_are_least, change(*RUNNER, "+", to=RULE | {"resources": ["secrets"]}), "secrets at large"),
    (policies.rights_are_least, change(*RUNNER, "+", to=RULE | {"verbs": ["create"]}), "making pods"),
    (policies.rights_are_least, change(*RUNNER, "+", to=RULE | {"resources": ["pods/exec"]}), "into pods"),
    (policies.rights_are_least, add({"kind": "ClusterRole"}), "ClusterRole/x"),
    (policies.rights_are_least, add(EXTERNAL | {"subjects": []}), "role from elsewhere"),
    (
        policies.rights_are_least,
        change("RoleBinding", "pathoflow-runner", "subjects", 0, "name", to="default"),
        "is for",
    ),
    (
        policies.only_the_runner_has_a_token,
        change("ServiceAccount", "pathoflow-trainer", "automountServiceAccountToken", to=...),
        "pathoflow-trainer mounts a token",
    ),
    (policies.only_the_runner_has_a_token, change_pod(NODE, "automountServiceAccountToken", to=True), "mounts a token"),
    (policies.only_the_runner_has_a_token, change_pod(MLFLOW, "serviceAccountName", to="default"), "runs as default"),
    (policies.no_secret_is_written_down, add({"kind": "Secret", "stringData": {"a": "b"}}), "Secret/x"),
    (policies.no_secret_is_written_down, add({"kind": "ConfigMap", "data": {"a": "[x]\npassword = b"}}), "ConfigMap/x"),
    (policies.no_secret_is_written_down, add({"kind": "ConfigMap", "data": {"a": "p://u:w@h/"}}), "ConfigMap/x"),
    (policies.no_secret_is_written_down, change_pod(CPT, *C, "env", "+", to=TOKEN), "HF_TOKEN"),
    (policies.no_secret_is_written_down, change_pod(CORPUS, *C, "env", "+", to=LOGIN), "STORE"),
    (policies.no_secret_is_written_down, change_pod(MLFLOW, *C, "args", "+", to="--uri=p://u:w@h"), "--uri"),
    (policies.images_are_named_by_digest, change_pod(CPT, *C, "image", to="pathoflow-train:0.1.0"), "exec-cpt"),
    (policies.images_are_named_by_digest, change_pod(BACKUP, "initContainers", 0, "image", to="postgres:17"), "backup"),
    (policies.gpus_go_to_models_alone, change_pod(CORPUS, *GPU, to="1"), "exec-corpus"),
    (policies.gpus_go_to_models_alone, change_pod(MLFLOW, *GPU, to="1"), "mlflow"),
    (
        policies.gpus_go_to_models_alone,
        change_pod(CPT, *C, "env", "+", to={"name": "PATHOFLOW_NODES", "value": "2"}),
        "exec-cpt/main",
    ),
    (policies.containers_have_limits, change_pod(CPT, *C, "resources", "limits", "memory", to=...), "memory"),
    (policies.containers_have_limits, change_pod(BACKUP, "initContainers", 0, "resources", to={}), "dump"),
    (policies.services_are_probed, change_pod(POSTGRES, *C, "livenessProbe", to=...), "livenessProbe"),
    (policies.services_are_probed, change_pod(ROLLOUT, *C, "readinessProbe", to=...), "readinessProbe"),
    (
        policies.the_network_is_closed,
        change("NetworkPolicy", "default-deny", "spec", "policyTypes", to=["Ingress"]),
        "nothing denies",
    ),
    (policies.the_network_is_closed, policy_with("open", "one two three", NARROW), "does not say"),
    (policies.the_network_is_closed, policy_with("allow-x", "", NARROW), "no description"),
    (policies.the_network_is_closed, policy_with("allow-x", "a b c", NARROW | {"podSelector": {}}), "every pod"),
    (policies.the_network_is_closed, policy_with("allow-x", "a b c", NARROW | {"egress": [{}]}), "everyone"),
    (
        policies.the_network_is_closed,
        policy_with("allow-x", "a b c", NARROW | {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}),
        "everyone",
    ),
    (
        policies.the_network_is_closed,
        policy_with("allow-x", "a b c", NARROW | {"egress": [{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}]}),
        "all ports",
    ),
    (
        policies.references_lead_somewhere,
        change_pod(NODE, "volumes", 0, "persistentVolumeClaim", "claimName", to="gone"),
        "claim gone",
    ),
    (
        policies.references_lead_somewhere,
        change_pod(MLFLOW, "volumes", 0, "configMap", "name", to="gone"),
        "ConfigMap gone",
    ),
    (
        policies.references_lead_somewhere,
        change_pod(MLFLOW, "volumes", 0, to={"name": "logins", "secret": {"secretName": "gone"}}),
        "Secret gone",
    ),
    (policies.references_lead_somewhere, change_pod(NODE, "volumes", 0, to=...), "volume checkpoints"),
    (
        policies.references_lead_somewhere,
        change_pod(
            CPT,
            *C,
            "env",
            "+",
            to={"name": "A", "valueFrom": {"secretKeyRef": {"name": "pathoflow-mlflow", "key": "x"}}},
        ),
        "key x",
    ),
    (policies.everything_is_labelled, relabel(NODE), NODE),
    (policies.everything_is_labelled, add({"kind": "Service", "metadata": {"name": "x"}}), "Service/x"),
    (
        policies.finished_jobsets_stay,
        change("TrainingRuntime", "pathoflow-rl", "spec", "template", "spec", "ttlSecondsAfterFinished", to=60),
        "pathoflow-rl",
    ),
]


@pytest.mark.parametrize(
    ("policy", "mutate", "finding"), MUTATIONS, ids=[f"{policy.__name__}-{text}" for policy, _, text in MUTATIONS]
)
def test_it_catches(policy: Policy, mutate: Mutation, finding: str) -> None:
    world = copy.deepcopy(world_of("multi-node"))
    mutate(world)
    found = policy(world)
    assert any(finding in text for text in found), found


def test_a_user_number_is_caught_where_the_cluster_gives_them_out() -> None:
    world = copy.deepcopy(world_of("openshift"))
    change_pod(MLFLOW, "securityContext", "fsGroup", to=10001)(world)
    assert policies.users_are_numbers_of_the_image_or_the_cluster(world)


def test_every_policy_is_seen_to_catch_something() -> None:
    assert {policy for policy, _, _ in MUTATIONS} == set(POLICIES)
