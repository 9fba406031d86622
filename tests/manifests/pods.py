"""Every pod that an installation and its pipelines may start, as Kubernetes will see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from pathoflow.cluster.settings import CHECKPOINTS_CLAIM, RUNNER_ACCOUNT
from tests.manifests.rendering import Object, name_of
from tools.golden import PIPELINES, Pipeline


@dataclass
class Pod:
    """A pod's template, and what it is part of.

    Attributes:
        where: Names it in messages.
        kind: Of the object that makes it; `Run` for a task of a pipeline.
        labels: The pod's labels.
        spec: The pod's spec.
    """

    where: str
    kind: str
    labels: dict[str, str]
    spec: dict[str, Any] = field(repr=False)

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of them, those that run first included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def component(self) -> str:
        """The stage or the service."""
        return self.labels.get("app.kubernetes.io/component", "")


def pods_of(objects: list[Object]) -> list[Pod]:
    """The pods of workloads and of TrainingRuntimes."""
    return [
        Pod(where, thing["kind"], template.get("metadata", {}).get("labels", {}), template["spec"])
        for thing in objects
        for where, template in _templates(thing)
    ]


def _templates(thing: Object) -> Iterator[tuple[str, dict[str, Any]]]:
    name, spec = name_of(thing), thing.get("spec", {})
    match thing["kind"]:
        case "Pod":
            yield name, thing
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
            yield name, spec["template"]
        case "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]
        case "TrainingRuntime" | "ClusterTrainingRuntime":
            for job in spec["template"]["spec"]["replicatedJobs"]:
                template = job["template"]["spec"]["template"]
                # JobSet tells its pods apart so.
                added = {"jobset.sigs.k8s.io/replicatedjob-name": job["name"]}
                labels = template["metadata"]["labels"] | added
                yield f"{name}/{job['name']}", template | {"metadata": {"labels": labels}}


def pipelines_of(overlay: str) -> list[Pipeline]:
    """The pipelines that are kept for an overlay with the recipes' own values."""
    return [pipeline for pipeline in PIPELINES if pipeline.overlay == overlay and not pipeline.variant]


def pods_of_pipeline(compiled: Pipeline) -> list[Pod]:
    """The pods of a compiled pipeline's tasks, with what Kubeflow Pipelines itself gives them."""
    pipeline, platform = yaml.load_all(compiled.compiled(), yaml.CSafeLoader)
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = pipeline["deploymentSpec"]["executors"]
    return [
        _task(f"{compiled.name}/{name}", executor["container"], settings.get(name, {}))
        for name, executor in executors.items()
    ]


def _task(where: str, container: dict[str, Any], settings: dict[str, Any]) -> Pod:
    mounts, volumes = _volumes(settings)
    identity = settings.get("securityContext", {})
    context: dict[str, Any] = {
        # Of each task's container, since KFP 2.16: https://github.com/kubeflow/pipelines/pull/12782
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    context |= {key: int(identity[key]) for key in ("runAsUser", "runAsGroup") if key in identity}
    if "runAsNonRoot" in identity:
        context["runAsNonRoot"] = identity["runAsNonRoot"]
    amounts = _amounts(container.get("resources", {}))
    main = {
        "name": "main",
        "image": container["image"],
        "env": [*container.get("env", []), *_variables(settings)],
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": context,
        "volumeMounts": mounts,
    }
    spec: dict[str, Any] = {
        "serviceAccountName": RUNNER_ACCOUNT,
        "restartPolicy": "Never",
        "containers": [main],
        "volumes": volumes,
        "nodeSelector": settings.get("nodeSelector", {}).get("labels", {}),
        "tolerations": settings.get("tolerations", []),
    }
    labels = settings.get("podMetadata", {}).get("labels", {})
    return Pod(where, "Run", labels | {"workflows.argoproj.io/workflow": "run"}, spec)


def _amounts(resources: dict[str, Any]) -> dict[str, str]:
    names = {"cpu": "resourceCpuLimit", "memory": "resourceMemoryLimit"}
    amounts = {name: resources[key] for name, key in names.items() if key in resources}
    if gpus := resources.get("accelerator"):
        amounts[gpus["resourceType"]] = gpus["resourceCount"]
    return amounts


def _variables(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Environment variables that hold a secret's key."""
    return [
        {
            "name": pair["envVar"],
            "valueFrom": {"secretKeyRef": {"name": entry["secretName"], "key": pair["secretKey"]}},
        }
        for entry in settings.get("secretAsEnv", [])
        for pair in entry["keyToEnv"]
    ]


def _volumes(settings: dict[str, Any]) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    found: list[tuple[str, str, dict[str, Any]]] = []
    for entry in settings.get("emptyDirMounts", []):
        size = {"medium": entry.get("medium"), "sizeLimit": entry.get("sizeLimit")}
        found.append((entry["volumeName"], entry["mountPath"], {"emptyDir": {k: v for k, v in size.items() if v}}))
    for entry in settings.get("pvcMount", []):
        claim = entry["pvcNameParameter"]["runtimeValue"]["constant"]
        name = "checkpoints" if claim == CHECKPOINTS_CLAIM else claim
        found.append((name, entry["mountPath"], {"persistentVolumeClaim": {"claimName": claim}}))
    for key, kind, name in (
        ("secretAsVolume", "secret", "secretName"),
        ("configMapAsVolume", "configMap", "configMapName"),
    ):
        source = "name" if kind == "configMap" else name
        found += [(e[name], e["mountPath"], {kind: {source: e[name]}}) for e in settings.get(key, [])]
    mounts = [{"name": name, "mountPath": path} for name, path, _ in found]
    return mounts, [{"name": name, **source} for name, _, source in found]
