"""What must hold for everything that pathoflow puts on a cluster, one readable function each.

A policy takes what an overlay installs together with the pods of the pipelines that are compiled for it, and returns
its findings: none, if it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pathoflow.cluster.settings import RUNNER_ACCOUNT, SECRET_KEYS, TRUSTED_KEYS
from pathoflow.contract.needs import ENDPOINT_SECRET
from tests.manifests.pods import Pod
from tests.manifests.rendering import Object, name_of


@dataclass
class World:
    """What is on one cluster.

    Attributes:
        overlay: The overlay's name.
        objects: What `kubectl apply -k` puts there.
        pods: The pods that these and the pipelines start.
    """

    overlay: str
    objects: list[Object]
    pods: list[Pod]

    def of_kind(self, *kinds: str) -> list[Object]:
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def names(self, kind: str) -> set[str]:
        return {thing["metadata"]["name"] for thing in self.of_kind(kind)}


Policy = Callable[[World], list[str]]

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECRETS = {
    **SECRET_KEYS,
    # Its keys are the recipes'.
    ENDPOINT_SECRET: (),
    "pathoflow-postgres": ("POSTGRES_PASSWORD", "MLFLOW_PASSWORD"),
    "pathoflow-mlflow-server": ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
}
"""Those that an administrator makes, as manifests/README.md tells."""
_USES_GPUS = {"pathoclip", "cpt", "sft", "rl", "vqa_benchmarks", "trainer", "rollout"}
"""What trains a model, or runs one that was trained."""
_CREDENTIAL = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|PRIVATE|(ACCESS|API|SIGNING)_?KEY", re.IGNORECASE)
_NOT_SECRET = {"PATHOFLOW_SIGNING_KEY", "PATHOFLOW_TRUSTED_KEYS"}
"""Paths of files."""
_LOGIN_IN_URL = re.compile(r"://[^/\s:@]+:[^/\s@]+@")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def pods_are_restricted(world: World) -> list[str]:
    """Every pod passes Kubernetes' pod security standard `restricted`.

    Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    return [f"{pod.where}: {fault}" for pod in world.pods for fault in _unrestricted(pod.spec)]


def _unrestricted(spec: dict[str, Any]) -> Iterator[str]:
    pod = spec.get("securityContext", {})
    yield from (f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))
    for volume in spec.get("volumes", []):
        if kinds := set(volume) - {"name"} - _VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(kinds)}"
    if pod.get("sysctls"):
        yield "sysctls are set"
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        own = container.get("securityContext", {})
        name, both = container["name"], pod | own
        if both.get("runAsNonRoot") is not True:
            yield f"{name} may run as root"
        if both.get("runAsUser") == 0:
            yield f"{name} runs as root"
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccomp profile"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may gain privileges"
        if own.get("privileged"):
            yield f"{name} is privileged"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name} keeps capabilities"
        if own.get("procMount", "Default") != "Default":
            yield f"{name} mounts /proc unmasked"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name} takes a port of the node"


def roots_are_read_only(world: World) -> list[str]:
    """No container can change its image. Of the pods of a pipeline Kubeflow Pipelines has no field for that."""
    return [
        f"{pod.where}/{container['name']}"
        for pod in world.pods
        if pod.kind != "Run"
        for container in pod.containers
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True
    ]


def users_are_numbers_of_the_image_or_the_cluster(world: World) -> list[str]:
    """Pods name their user by number; on OpenShift none does, since the cluster gives each namespace its own."""
    found = []
    for pod in world.pods:
        for container in pod.containers:
            context = pod.spec.get("securityContext", {}) | container.get("securityContext", {})
            named = [key for key in ("runAsUser", "runAsGroup", "fsGroup") if key in context]
            if world.overlay == "openshift" and named:
                found.append(f"{pod.where}/{container['name']} asks for {', '.join(named)}")
            elif world.overlay != "openshift" and not {"runAsUser", "runAsGroup"} <= set(named):
                found.append(f"{pod.where}/{container['name']} names no user and group")
    return found


def rights_are_least(world: World) -> list[str]:
    """Roles name what they grant, give nothing that leads to more, and reach no further than their namespace."""
    found = [name_of(thing) for thing in world.of_kind("ClusterRole", "ClusterRoleBinding")]
    for role in world.of_kind("Role"):
        for rule in role["rules"]:
            verbs, resources = set(rule["verbs"]), set(rule.get("resources", []))
            faults = [
                "*" in verbs | resources | set(rule.get("apiGroups", [])) and "a wildcard",
                verbs & {"escalate", "bind", "impersonate"} and "a way to more rights",
                "secrets" in resources and not (rule.get("resourceNames") and verbs == {"get"}) and "secrets at large",
                resources & {"pods", "deployments", "jobs"} and verbs & {"create", "patch", "update"} and "making pods",
                resources & {"pods/exec", "pods/attach", "serviceaccounts/token", "nodes/proxy"} and "a way into pods",
            ]
            found += [f"{name_of(role)} grants {fault}" for fault in faults if fault]
    for binding in world.of_kind("RoleBinding"):
        if binding["roleRef"]["kind"] != "Role" or binding["roleRef"]["name"] not in world.names("Role"):
            found.append(f"{name_of(binding)} binds a role from elsewhere")
        subjects = [(subject["kind"], subject["name"]) for subject in binding["subjects"]]
        found += [f"{name_of(binding)} is for {s}" for s in subjects if s != ("ServiceAccount", RUNNER_ACCOUNT)]
    return found


def only_the_runner_has_a_token(world: World) -> list[str]:
    """No account but the runner's mounts a token, and every pod has an account of ours."""
    found = [
        f"{name_of(account)} mounts a token"
        for account in world.of_kind("ServiceAccount")
        if account["metadata"]["name"] != RUNNER_ACCOUNT and account.get("automountServiceAccountToken") is not False
    ]
    for pod in world.pods:
        account = pod.spec.get("serviceAccountName")
        if account not in world.names("ServiceAccount"):
            found.append(f"{pod.where} runs as {account}")
        if account != RUNNER_ACCOUNT and pod.spec.get("automountServiceAccountToken") is not False:
            found.append(f"{pod.where} mounts a token")
    return found


def no_secret_is_written_down(world: World) -> list[str]:
    """Secrets are named, never written: not as a Secret, a variable, an argument, or in a ConfigMap."""
    found = [
        f"{name_of(secret)} has content"
        for secret in world.of_kind("Secret")
        if secret.get("data") or secret.get("stringData")
    ]
    for thing in world.of_kind("ConfigMap"):
        found += [
            f"{name_of(thing)}: {key}"
            for key, text in thing.get("data", {}).items()
            if _LOGIN_IN_URL.search(text) or re.search(r"(?im)^\s*\w*(password|secret|token)\w*\s*[=:]\s*[^\s$]", text)
        ]
    for pod in world.pods:
        for container in pod.containers:
            written = {entry["name"]: entry["value"] for entry in container.get("env", []) if entry.get("value")}
            found += [
                f"{pod.where}/{container['name']}: {name}"
                for name, value in written.items()
                if (_CREDENTIAL.search(name) and name not in _NOT_SECRET and value not in ("true", "false"))
                or _LOGIN_IN_URL.search(value)
            ]
            words = [*container.get("command", []), *container.get("args", [])]
            found += [f"{pod.where}/{container['name']}: {word}" for word in words if _LOGIN_IN_URL.search(word)]
    return found


def images_are_named_by_digest(world: World) -> list[str]:
    """Nobody can put other bytes behind an image's name. A cluster on one machine takes what was built there."""
    return [
        f"{pod.where}: {container['image']}"
        for pod in world.pods
        for container in pod.containers
        if not _DIGEST.search(container["image"]) and not _is_built_here(world, container["image"])
    ]


def _is_built_here(world: World, image: str) -> bool:
    return world.overlay == "local" and image.startswith("pathoflow-")


def gpus_go_to_models_alone(world: World) -> list[str]:
    """Only pods that run a model ask for GPUs, and the launcher of a TrainJob is none of them."""
    found = []
    for pod in world.pods:
        for container in pod.containers:
            gpus = [name for name in container["resources"]["limits"] if "gpu" in name]
            variables = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
            launches = variables.get("PATHOFLOW_NODES", "1") != "1"
            if gpus and (pod.component not in _USES_GPUS or launches):
                found.append(f"{pod.where}/{container['name']}")
            if launches and not json.loads(variables.get("PATHOFLOW_TRAINJOB") or "{}").get("gpus_per_node"):
                found.append(f"{pod.where} launches a TrainJob without GPUs")
    return found


def containers_have_limits(world: World) -> list[str]:
    """Every container says how much CPU and memory it needs at least and at most."""
    return [
        f"{pod.where}/{container['name']} has no {bound} for {amount}"
        for pod in world.pods
        for container in pod.containers
        for bound in ("requests", "limits")
        for amount in ("cpu", "memory")
        if amount not in container.get("resources", {}).get(bound, {})
    ]


def services_are_probed(world: World) -> list[str]:
    """Kubernetes can tell whether a service has started, answers, and lives; so it can for the rollouts' server."""
    return [
        f"{pod.where}/{container['name']} has no {probe}"
        for pod in world.pods
        if pod.kind in ("Deployment", "StatefulSet", "DaemonSet") or pod.component == "rollout"
        for container in pod.spec["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe not in container
    ]


def the_network_is_closed(world: World) -> list[str]:
    """All traffic is denied but what a policy named `allow-…` describes, and none of these is open to the world."""
    policies = world.of_kind("NetworkPolicy")
    denial = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    found = [] if any(policy["spec"] == denial for policy in policies) else ["nothing denies by default"]
    for policy in policies:
        name, spec = policy["metadata"]["name"], policy["spec"]
        if spec == denial:
            continue
        if not name.startswith("allow-"):
            found.append(f"{name} does not say what it allows")
        if len(policy["metadata"].get("annotations", {}).get("kubernetes.io/description", "").split()) < 3:
            found.append(f"{name} has no description")
        if not spec["podSelector"] and name != "allow-dns":
            found.append(f"{name} is for every pod")
        rules = [(rule, rule.get("from")) for rule in spec.get("ingress", [])]
        rules += [(rule, rule.get("to")) for rule in spec.get("egress", [])]
        if name == "allow-other-pods":
            # It gives pods that are not pathoflow's the freedom that they had.
            continue
        found += [f"{name} allows everyone" for _, peers in rules if not peers]
        found += [f"{name} allows everyone" for _, peers in rules for peer in peers or [] if not _is_narrow(name, peer)]
        between_pods = all("podSelector" in peer for _, peers in rules for peer in peers or [])
        if not between_pods and any(not rule.get("ports") for rule, _ in rules):
            found.append(f"{name} allows all ports")
    return found


def _is_narrow(name: str, peer: dict[str, Any]) -> bool:
    block = peer.get("ipBlock")
    if block is None:
        return any(peer.get(selector) for selector in ("podSelector", "namespaceSelector"))
    return block["cidr"] != "0.0.0.0/0" or (
        name.endswith(("-to-hub", "-to-endpoints")) and "10.0.0.0/8" in block.get("except", [])
    )


def references_lead_somewhere(world: World) -> list[str]:
    """Each ConfigMap, claim and key of a secret that a pod names is installed, or is one that the runbook makes."""
    found = []
    claims = world.names("PersistentVolumeClaim")
    for pod in world.pods:
        own = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        claimed = _claim_templates(world, pod)
        for volume in own.values():
            if (claim := volume.get("persistentVolumeClaim")) and claim["claimName"] not in claims:
                found.append(f"{pod.where}: claim {claim['claimName']}")
            if (config := volume.get("configMap")) and config["name"] not in world.names("ConfigMap") | {TRUSTED_KEYS}:
                found.append(f"{pod.where}: ConfigMap {config['name']}")
            if (secret := volume.get("secret")) and secret["secretName"] not in SECRETS:
                found.append(f"{pod.where}: Secret {secret['secretName']}")
        for container in pod.containers:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            found += [f"{pod.where}: volume {name}" for name in mounted - own.keys() - claimed]
            for entry in container.get("env", []):
                key = entry.get("valueFrom", {}).get("secretKeyRef")
                if key and key["key"] not in SECRETS.get(key["name"], ()):
                    found.append(f"{pod.where}: Secret {key['name']}, key {key['key']}")
    return found


def _claim_templates(world: World, pod: Pod) -> set[str]:
    return {
        claim["metadata"]["name"]
        for thing in world.of_kind("StatefulSet")
        if name_of(thing) == pod.where
        for claim in thing["spec"].get("volumeClaimTemplates", [])
    }


def everything_is_labelled(world: World) -> list[str]:
    """Each object and pod says that it is pathoflow's, and each pod which part of it.

    A namespace may be a Kubeflow profile's, whose controller has its own value in that label.
    """
    label = "app.kubernetes.io/part-of"
    found = [
        name_of(thing)
        for thing in world.objects
        if thing["metadata"].get("labels", {}).get(label) != "pathoflow"
        and thing["kind"] != "Namespace"
        and thing["metadata"]["name"] != "pathoflow-parameters"
    ]
    return found + [pod.where for pod in world.pods if pod.labels.get(label) != "pathoflow" or not pod.component]


def finished_jobsets_stay(world: World) -> list[str]:
    """No runtime lets Kubernetes delete a finished JobSet, which Kubeflow Trainer would then make anew."""
    return [
        name_of(runtime)
        for runtime in world.of_kind("TrainingRuntime")
        if "ttlSecondsAfterFinished" in json.dumps(runtime)
    ]


POLICIES: tuple[Policy, ...] = (
    pods_are_restricted,
    roots_are_read_only,
    users_are_numbers_of_the_image_or_the_cluster,
    rights_are_least,
    only_the_runner_has_a_token,
    no_secret_is_written_down,
    images_are_named_by_digest,
    gpus_go_to_models_alone,
    containers_have_limits,
    services_are_probed,
    the_network_is_closed,
    references_lead_somewhere,
    everything_is_labelled,
    finished_jobsets_stay,
)
