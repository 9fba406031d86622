"""Checks a cluster before a run starts: one finding per thing that the run needs, each with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kubernetes import client
from kubernetes.utils import parse_quantity
from urllib3.exceptions import HTTPError

from pathoflow.cluster.api import connect, explain
from pathoflow.cluster.findings import Finding, Level
from pathoflow.cluster.fitting import Node, free_nodes, shown, wanted, why_none_fits
from pathoflow.cluster.services import look_at_services
from pathoflow.cluster.settings import (
    CHECKPOINTS_CLAIM,
    RUNNER_ACCOUNT,
    SECRET_KEYS,
    TORCHRUN_RUNTIME,
    TRUSTED_KEYS,
    Cluster,
)
from pathoflow.cluster.trainjob_spec import GROUP, VERSION
from pathoflow.contract.needs import ENDPOINT_SECRET, HUB_SECRET
from pathoflow.contract.recipe import Recipe
from pathoflow.errors import ClusterError

_APIS = {
    "argoproj.io": ("v1alpha1", "Kubeflow Pipelines' workflows"),
    GROUP: (VERSION, "Kubeflow Trainer, for training over several nodes"),
    "kueue.x-k8s.io": ("v1beta2", "Kueue, which the overlay's queue needs"),
    "monitoring.coreos.com": ("v1", "the Prometheus operator, for metrics and alerts"),
}
_RUNBOOK = "Apply the overlay: manifests/README.md."
_CONNECT_S = 5.0
_KUEUE = ("kueue.x-k8s.io", "v1beta2")
# What the launcher of a TrainJob and the exit task do: verb, group, resource, subresource.
_RIGHTS = (
    *((verb, GROUP, "trainjobs", "") for verb in ("create", "get", "list", "watch", "delete")),
    ("list", "", "pods", ""),
    ("get", "", "pods", "log"),
)


def examine(cluster: Cluster, recipe: Recipe | None = None, context: str | None = None) -> list[Finding]:
    """Looks at a cluster with the eyes of the kubeconfig's user, or of the pod's account.

    A thing that cannot be looked at is reported as unknown, and the others are still looked at. No value of a secret
    is read into a finding.

    Args:
        cluster: The overlay's parameters.
        recipe: Whose pods must fit; None leaves that out.
        context: Context of the kubeconfig; None takes its current one.
    """
    return [_images(cluster), *_kubernetes(cluster, recipe, context), *look_at_services(cluster)]


def _kubernetes(cluster: Cluster, recipe: Recipe | None, context: str | None) -> list[Finding]:
    """Connects to the API server and runs every check on it."""
    try:
        api = connect(context)
        version = client.VersionApi(api).get_code(_request_timeout=_CONNECT_S)
    except ClusterError as error:
        return [Finding("API server", "failed", str(error))]
    except (client.ApiException, HTTPError) as error:
        return [Finding("API server", "failed", str(explain(error, "reach the API server")))]
    findings = [Finding("API server", "ok", f"{api.configuration.host}, {version.git_version}")]
    checks: list[Callable[[client.ApiClient, Cluster, Recipe | None], Iterator[Finding]]]
    checks = [_namespace, _apis, _runtimes, _queue, _account, _secrets, _storage, _quota, _nodes]
    for check in checks:
        name = check.__name__.strip("_")
        try:
            findings += check(api, cluster, recipe)
        except (client.ApiException, HTTPError) as error:
            findings.append(Finding(name, "unknown", str(explain(error, f"look at the {name}"))))
    return findings


def _images(cluster: Cluster) -> Finding:
    if names := cluster.placeholders():
        remedy = "Push your images (make images PUSH=1) and write their digests into the overlay's parameters.yaml."
        return Finding("images", "failed", f"still a placeholder: {', '.join(names)}", remedy)
    tagged = [image for image in (cluster.cpu_image, cluster.train_image, cluster.rl_image) if "@sha256:" not in image]
    if tagged:
        remedy = "Write digests, unless this is a cluster on your own machine: code may change beneath a tag."
        return Finding("images", "warning", f"named by tag: {', '.join(tagged)}; no stage is reused", remedy)
    return Finding("images", "ok", "named by digest")


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
    needed = {"argoproj.io": True, GROUP: bool(_spanning(recipe)), "kueue.x-k8s.io": bool(cluster.queue)}
    for group, (version, what) in _APIS.items():
        lacking: Level = "failed" if needed.get(group) else "warning"
        if group not in served:
            yield Finding(group, lacking, "is not served", f"Install {what}; see manifests/README.md.")
        elif version not in served[group]:
            detail = f"serves {', '.join(served[group])}, and {version} is asked for"
            yield Finding(group, lacking, detail, f"Install a version of {what} that serves {version}.")
        else:
            yield Finding(group, "ok", f"serves {version}")


def _spanning(recipe: Recipe | None) -> list[str]:
    """The stages that train on several nodes."""
    return [stage for stage, compute in (recipe.compute if recipe else {}).items() if compute.nodes > 1]


def _runtimes(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    if _spanning(recipe):
        what, remedy = f"TrainingRuntime {TORCHRUN_RUNTIME}", "Apply the overlay, with manifests/components/trainjobs."
        yield _custom(api, cluster, (GROUP, VERSION), "trainingruntimes", TORCHRUN_RUNTIME, what, remedy)


def _queue(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    queues = {compute.queue for compute in (recipe.compute if recipe else {}).values() if compute.queue}
    for name in sorted(queues | ({cluster.queue} if cluster.queue else set())):
        remedy = "Apply the overlay, with manifests/components/kueue, or name another queue."
        yield _custom(api, cluster, _KUEUE, "localqueues", name, f"queue {name}", remedy)


def _custom(
    api: client.ApiClient, cluster: Cluster, kind: tuple[str, str], plural: str, name: str, what: str, remedy: str
) -> Finding:
    """Checks that an object is there whose kind not every cluster knows."""
    try:
        client.CustomObjectsApi(api).get_namespaced_custom_object(*kind, cluster.namespace, plural, name)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return Finding(what, "failed", f"is not in {cluster.namespace}", remedy)
    return Finding(what, "ok", "is there")


def _account(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    try:
        client.CoreV1Api(api).read_namespaced_service_account(RUNNER_ACCOUNT, cluster.namespace)
    except client.ApiException as error:
        if error.status != 404:
            raise
        yield Finding("service account", "failed", f"there is no {RUNNER_ACCOUNT}", _RUNBOOK)
        return
    user = f"system:serviceaccount:{cluster.namespace}:{RUNNER_ACCOUNT}"
    reviews = client.AuthorizationV1Api(api)
    lacking = []
    for verb, group, resource, subresource in _RIGHTS:
        wish = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        review = {"spec": {"user": user, "resourceAttributes": wish | {"namespace": cluster.namespace}}}
        if not reviews.create_subject_access_review(review).status.allowed:
            lacking.append(f"{verb} {resource}{subresource and f'/{subresource}'}")
    if lacking:
        yield Finding("service account", "failed", f"{RUNNER_ACCOUNT} may not {', '.join(lacking)}", _RUNBOOK)
    else:
        yield Finding("service account", "ok", f"{RUNNER_ACCOUNT} may start and delete TrainJobs and see their pods")


def _secrets(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    for name, keys in (SECRET_KEYS | _endpoint_keys(recipe)).items():
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
    if cluster.image_pull_secret:
        yield _there(
            lambda: client.CoreV1Api(api).read_namespaced_secret(cluster.image_pull_secret, cluster.namespace),
            f"secret {cluster.image_pull_secret}",
            "Make it with `kubectl create secret docker-registry`, as manifests/README.md says.",
        )
    yield _there(
        lambda: client.CoreV1Api(api).read_namespaced_config_map(TRUSTED_KEYS, cluster.namespace),
        f"ConfigMap {TRUSTED_KEYS}",
        "Make it from the folder of trusted keys, as manifests/README.md says.",
    )


def _endpoint_keys(recipe: Recipe | None) -> dict[str, tuple[str, ...]]:
    """The keys of endpoints that a recipe's stages want, by the secret that holds them."""
    declared = [secret for config in (recipe.stages if recipe else {}).values() for secret in config.secrets()]
    keys = tuple(sorted({secret.key for secret in declared if secret.secret == ENDPOINT_SECRET}))
    return {ENDPOINT_SECRET: keys} if keys else {}


def _there(read: Callable[[], object], what: str, remedy: str) -> Finding:
    """Checks that an object is there."""
    try:
        read()
    except client.ApiException as error:
        if error.status == 404:
            return Finding(what, "failed", "is not there", remedy)
        return Finding(what, "unknown", str(explain(error, f"look for the {what}")))
    return Finding(what, "ok", "is there")


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
    yield _bound(claim, _spanning(recipe))
    if cluster.sources_claim:
        yield _there(
            lambda: client.CoreV1Api(api).read_namespaced_persistent_volume_claim(
                cluster.sources_claim, cluster.namespace
            ),
            f"claim {cluster.sources_claim}",
            "Make it, and copy books and public data there; or name another as sources_claim.",
        )


def _bound(claim: client.V1PersistentVolumeClaim, spanning: list[str]) -> Finding:
    """Checks that the claim with checkpoints is bound, and may be mounted on as many nodes as write to it."""
    what, modes = f"claim {CHECKPOINTS_CLAIM}", claim.spec.access_modes
    detail = f"{claim.status.phase}, {', '.join(modes)}"
    if "ReadWriteMany" not in modes:
        level: Level = "failed" if spanning else "warning"
        why = f"{', '.join(spanning)} write to it from several nodes" if spanning else "fine while there is one node"
        return Finding(what, level, detail, f"Have a storage class with ReadWriteMany: {why}.")
    if claim.status.phase != "Bound":
        remedy = "Fine if its class binds at the first pod; else `kubectl describe` tells why."
        return Finding(what, "warning", detail, remedy)
    return Finding(what, "ok", detail)


def _quota(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    for quota in client.CoreV1Api(api).list_namespaced_resource_quota(cluster.namespace).items:
        what = f"quota {quota.metadata.name}"
        hard, used = quota.status.hard or {}, quota.status.used or {}
        most = {name: parse_quantity(amount) for name, amount in hard.items()}
        left = {name: most[name] - parse_quantity(used.get(name, "0")) for name in most}
        fits = True
        for stage, pods, amounts in wanted(recipe):
            short = [(name, pods * each) for name, each in amounts.items() if f"requests.{name}" in left]
            short = [(name, amount) for name, amount in short if amount > left[f"requests.{name}"]]
            if short:
                fits = False
                never = any(amount > most[f"requests.{name}"] for name, amount in short)
                told = [
                    f"{name}: {shown(name, n)} wanted, {shown(name, left[f'requests.{name}'])} left"
                    for name, n in short
                ]
                remedy = "Raise the quota, or lower the stage's compute." if never else "Wait until others have ended."
                yield Finding(what, "failed" if never else "warning", f"{stage}: {'; '.join(told)}", remedy)
        if fits:
            yield Finding(what, "ok", ", ".join(f"{name}: {shown(name, left[name])} left" for name in sorted(left)))


def _nodes(api: client.ApiClient, cluster: Cluster, recipe: Recipe | None) -> Iterator[Finding]:
    nodes: list[Node] = free_nodes(api) if recipe else []
    empty = [node._replace(free=node.allocatable) for node in nodes]
    for stage, pods, amounts in wanted(recipe):
        assert recipe is not None
        what, compute = f"nodes for {stage}", recipe.compute[stage]
        if never := why_none_fits(empty, compute, amounts, pods):
            yield Finding(what, "failed", never, "Add such a node, or change the stage's compute.")
        elif busy := why_none_fits(nodes, compute, amounts, pods):
            yield Finding(what, "warning", f"now {busy}", "It waits until other pods have ended.")
        else:
            yield Finding(what, "ok", "has room now" if pods == 1 else f"{pods} pods have room now")
