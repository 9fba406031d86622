"""What a run needs of a cluster, looked at before it starts: one finding per thing, each with a remedy."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from kubernetes import client
from urllib3.exceptions import HTTPError

from pathoflow.cluster.api import connect, explain
from pathoflow.cluster.fitting import Node, free_nodes, wanted, why_none_fits
from pathoflow.cluster.settings import (
    CHECKPOINTS_CLAIM,
    HUB_SECRET,
    RUNNER_ACCOUNT,
    SECRET_KEYS,
    Cluster,
)
from pathoflow.errors import ClusterError
from pathoflow.recipe import Recipe

Level = Literal["ok", "warning", "failed", "unknown"]

_APIS = {
    "argoproj.io": ("v1alpha1", "Kubeflow Pipelines' workflows"),
    "trainer.kubeflow.org": ("v1alpha1", "Kubeflow Trainer, for training over several nodes"),
    "kueue.x-k8s.io": ("v1beta2", "Kueue, which the overlay's queue needs"),
    "monitoring.coreos.com": ("v1", "the Prometheus operator, for metrics and alerts"),
}
_RUNBOOK = "Apply the overlay: manifests/README.md."
_CONNECT_S = 5.0


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: What it is.
        level: `failed` keeps a run from working, `unknown` could not be looked at from here.
        detail: What was found.
        remedy: What to do; empty if nothing is.
    """

    what: str
    level: Level
    detail: str
    remedy: str = ""


def examine(cluster: Cluster, recipe: Recipe | None = None, context: str | None = None) -> list[Finding]:
    """Looks at a cluster with the eyes of the kubeconfig's user, or of the pod's account.

    A thing that cannot be looked at is reported as unknown, and the others are still looked at. No value of a secret
    is read into a finding.

    Args:
        cluster: The overlay's parameters.
        recipe: Whose pods must fit; None leaves that out.
        context: Context of the kubeconfig; None takes its current one.
    """
    findings = [_images(cluster)]
    try:
        api = connect(context)
        version = client.VersionApi(api).get_code(_request_timeout=_CONNECT_S)
    except ClusterError as error:
        return [*findings, Finding("API server", "failed", str(error))]
    except (client.ApiException, HTTPError) as error:
        return [*findings, Finding("API server", "failed", str(explain(error, "reach the API server")))]
    findings.append(Finding("API server", "ok", f"{api.configuration.host}, {version.git_version}"))
    checks: list[Callable[[client.ApiClient, Cluster, Recipe | None], Iterator[Finding]]]
    checks = [_namespace, _apis, _account, _secrets, _storage, _quota, _nodes]
    for check in checks:
        name = check.__name__.strip("_")
        try:
            findings += check(api, cluster, recipe)
        except (client.ApiException, HTTPError) as error:
            findings.append(Finding(name, "unknown", str(explain(error, f"look at the {name}"))))
    return [*findings, *(_reached(name, url) for name, url in _services(cluster))]


def _images(cluster: Cluster) -> Finding:
    if names := cluster.placeholders():
        remedy = "Push your images (make images PUSH=1) and write their digests into the overlay's parameters.yaml."
        return Finding("images", "failed", f"still a placeholder: {', '.join(names)}", remedy)
    return Finding("images", "ok", "named")


def _namespace(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    try:
        found = client.CoreV1Api(api).read_namespace(cluster.namespace)
    except client.ApiException as error:
        if error.status != 404:
            raise
        yield Finding("namespace", "failed", f"there is no {cluster.namespace}", _RUNBOOK)
        return
    enforced = (found.metadata.labels or {}).get("pod-security.kubernetes.io/enforce", "no standard")
    yield Finding("namespace", "ok", f"{cluster.namespace}, which enforces {enforced}")


def _apis(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    groups = client.ApisApi(api).get_api_versions().groups
    served = {group.name: [version.version for version in group.versions] for group in groups}
    several = bool(recipe) and any(compute.nodes > 1 for compute in recipe.compute.values()) if recipe else False
    needed = {"argoproj.io": True, "trainer.kubeflow.org": several, "kueue.x-k8s.io": bool(cluster.queue)}
    for group, (version, what) in _APIS.items():
        lacking: Level = "failed" if needed.get(group) else "warning"
        if group not in served:
            yield Finding(group, lacking, "is not served", f"Install {what}; see manifests/README.md.")
        elif version not in served[group]:
            detail = f"serves {', '.join(served[group])}, and {version} is asked for"
            yield Finding(group, lacking, detail, f"Install a version of {what} that serves {version}.")
        else:
            yield Finding(group, "ok", f"serves {version}")


def _account(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    try:
        client.CoreV1Api(api).read_namespaced_service_account(RUNNER_ACCOUNT, cluster.namespace)
    except client.ApiException as error:
        if error.status != 404:
            raise
        yield Finding("service account", "failed", f"there is no {RUNNER_ACCOUNT}", _RUNBOOK)
        return
    wish = {"namespace": cluster.namespace, "verb": "create", "group": "trainer.kubeflow.org", "resource": "trainjobs"}
    user = f"system:serviceaccount:{cluster.namespace}:{RUNNER_ACCOUNT}"
    review = {"spec": {"user": user, "resourceAttributes": wish}}
    if client.AuthorizationV1Api(api).create_subject_access_review(review).status.allowed:
        yield Finding("service account", "ok", f"{RUNNER_ACCOUNT} may create TrainJobs")
    else:
        yield Finding("service account", "failed", f"{RUNNER_ACCOUNT} may not create TrainJobs", _RUNBOOK)


def _secrets(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    for name, keys in SECRET_KEYS.items():
        lacking: Level = "warning" if name == HUB_SECRET else "failed"
        remedy = "Make it as manifests/README.md says." + (" Only gated models need it." * (name == HUB_SECRET))
        try:
            found = client.CoreV1Api(api).read_namespaced_secret(name, cluster.namespace)
        except client.ApiException as error:
            if error.status == 404:
                yield Finding(f"secret {name}", lacking, "is not there", remedy)
            else:
                yield Finding(f"secret {name}", "unknown", str(explain(error, f"look for the secret {name}")))
            continue
        missing = [key for key in keys if key not in (found.data or {})]
        if missing:
            yield Finding(f"secret {name}", lacking, f"lacks {', '.join(missing)}", remedy)
        else:
            yield Finding(f"secret {name}", "ok", f"holds {', '.join(keys)}")


def _storage(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    classes = {found.metadata.name for found in client.StorageV1Api(api).list_storage_class().items}
    for name in sorted({cluster.storage_class, cluster.shared_storage_class}):
        if name in classes:
            yield Finding(f"storage class {name}", "ok", "is there")
        else:
            known = f"There are: {', '.join(sorted(classes)) or 'none'}."
            yield Finding(f"storage class {name}", "failed", "is not there", f"{known} Name one in parameters.yaml.")
    try:
        claim = client.CoreV1Api(api).read_namespaced_persistent_volume_claim(CHECKPOINTS_CLAIM, cluster.namespace)
    except client.ApiException as error:
        if error.status != 404:
            raise
        yield Finding(f"claim {CHECKPOINTS_CLAIM}", "failed", "is not there", _RUNBOOK)
        return
    level: Level = "ok" if claim.status.phase == "Bound" else "warning"
    remedy = "" if level == "ok" else "Fine if its class binds at the first pod; else `kubectl describe` tells why."
    detail = f"{claim.status.phase}, {', '.join(claim.spec.access_modes)}"
    yield Finding(f"claim {CHECKPOINTS_CLAIM}", level, detail, remedy)


def _quota(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    from kubernetes.utils import parse_quantity

    for quota in client.CoreV1Api(api).list_namespaced_resource_quota(cluster.namespace).items:
        hard, used = quota.status.hard or {}, quota.status.used or {}
        left = {name: parse_quantity(hard[name]) - parse_quantity(used.get(name, "0")) for name in hard}
        for stage, amounts in wanted(recipe):
            short = [
                f"{name}: {amount} wanted, {left[f'requests.{name}']} left"
                for name, amount in amounts.items()
                if f"requests.{name}" in left and amount > left[f"requests.{name}"]
            ]
            if short:
                remedy = "Free some, raise the quota, or lower the stage's compute."
                yield Finding(f"quota {quota.metadata.name}", "failed", f"{stage}: {'; '.join(short)}", remedy)
        if recipe is None:
            yield Finding(f"quota {quota.metadata.name}", "ok", ", ".join(f"{k} {v} left" for k, v in left.items()))


def _nodes(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    nodes: list[Node] = free_nodes(api)
    for stage, amounts in wanted(recipe):
        assert recipe is not None
        reason = why_none_fits(nodes, recipe.compute[stage], amounts)
        if reason:
            remedy = "Wait for running pods, add such a node, or change the stage's compute."
            yield Finding(f"nodes for {stage}", "failed", reason, remedy)
        else:
            yield Finding(f"nodes for {stage}", "ok", "one has room now")


def _services(cluster: Cluster) -> list[tuple[str, str]]:
    return [
        ("MLflow", cluster.mlflow),
        ("Kubeflow Pipelines", cluster.kfp),
        ("object store", cluster.object_store),
    ]


def _reached(name: str, url: str) -> Finding:
    """Whether a service takes connections from here; a name that only the cluster knows tells nothing."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), _CONNECT_S).close()
    except socket.gaierror:
        return Finding(name, "unknown", f"{parts.hostname} has no address here; it may have one inside the cluster")
    except OSError as error:
        return Finding(name, "failed", f"{parts.hostname}:{port} does not answer: {error}", "Is it running?")
    return Finding(name, "ok", f"{parts.hostname}:{port} answers")
