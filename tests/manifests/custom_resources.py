"""The fields that we use of kinds that no Python package describes; a field that is not listed is an error.

Sources: Kueue's, OpenShift's and the Prometheus operator's API references, as of Kueue 0.16 and the operator 0.85.
"""

# ruff: noqa: N815
from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_QUANTITY = r"^\d+([KMGT]i)?$"
_DURATION = r"^\d+(ms|s|m|h)$"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Metadata(Strict):
    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Selector(Strict):
    matchLabels: dict[str, str] = {}
    matchExpressions: list[dict[str, Any]] = []


class Toleration(Strict):
    key: str
    operator: Literal["Exists", "Equal"]
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class FlavorSpec(Strict):
    nodeLabels: dict[str, str] = {}
    tolerations: list[Toleration] = []


class Quota(Strict):
    name: str
    nominalQuota: str = Field(pattern=_QUANTITY)


class FlavorQuotas(Strict):
    name: str
    resources: list[Quota]


class ResourceGroup(Strict):
    coveredResources: list[str] = Field(min_length=1)
    flavors: list[FlavorQuotas] = Field(min_length=1)


class Preemption(Strict):
    withinClusterQueue: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"]


class ClusterQueueSpec(Strict):
    namespaceSelector: Selector
    queueingStrategy: Literal["StrictFIFO", "BestEffortFIFO"]
    preemption: Preemption
    resourceGroups: list[ResourceGroup]


class LocalQueueSpec(Strict):
    clusterQueue: str


class RouteTarget(Strict):
    kind: Literal["Service"]
    name: str
    weight: int = Field(ge=0, le=256)


class RoutePort(Strict):
    targetPort: str | int


class RouteTls(Strict):
    termination: Literal["edge", "passthrough", "reencrypt"]
    insecureEdgeTerminationPolicy: Literal["None", "Allow", "Redirect"]


class RouteSpec(Strict):
    host: str
    to: RouteTarget
    port: RoutePort
    tls: RouteTls
    wildcardPolicy: Literal["None", "Subdomain"]


class Relabeling(Strict):
    sourceLabels: list[str] = []
    targetLabel: str | None = None
    regex: str | None = None
    replacement: str | None = None
    action: str = "replace"


class Endpoint(Strict):
    port: str | None = None
    path: str = "/metrics"
    interval: str = Field("30s", pattern=_DURATION)
    scrapeTimeout: str | None = Field(None, pattern=_DURATION)
    honorLabels: bool = False
    relabelings: list[Relabeling] = []
    metricRelabelings: list[Relabeling] = []


class PodMonitorSpec(Strict):
    selector: Selector
    namespaceSelector: dict[str, Any] = {}
    podMetricsEndpoints: list[Endpoint] = Field(min_length=1)
    podTargetLabels: list[str] = []
    jobLabel: str | None = None


class ServiceMonitorSpec(Strict):
    selector: Selector
    namespaceSelector: dict[str, Any] = {}
    endpoints: list[Endpoint] = Field(min_length=1)
    targetLabels: list[str] = []
    jobLabel: str | None = None


class Rule(Strict):
    alert: str | None = None
    record: str | None = None
    expr: str
    for_: str | None = Field(None, alias="for", pattern=_DURATION)
    keep_firing_for: str | None = Field(None, pattern=_DURATION)
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class RuleGroup(Strict):
    name: str
    interval: str | None = Field(None, pattern=_DURATION)
    rules: list[Rule] = Field(min_length=1)


class RuleSpec(Strict):
    groups: list[RuleGroup] = Field(min_length=1)


class WorkloadPriorityClass(Strict):
    apiVersion: Literal["kueue.x-k8s.io/v1beta2"]
    kind: Literal["WorkloadPriorityClass"]
    metadata: Metadata
    value: int
    description: str


SPECS: dict[tuple[str, str], type[Strict]] = {
    ("kueue.x-k8s.io/v1beta2", "ResourceFlavor"): FlavorSpec,
    ("kueue.x-k8s.io/v1beta2", "ClusterQueue"): ClusterQueueSpec,
    ("kueue.x-k8s.io/v1beta2", "LocalQueue"): LocalQueueSpec,
    ("route.openshift.io/v1", "Route"): RouteSpec,
    ("monitoring.coreos.com/v1", "PodMonitor"): PodMonitorSpec,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): ServiceMonitorSpec,
    ("monitoring.coreos.com/v1", "PrometheusRule"): RuleSpec,
}


def check(thing: dict[str, Any]) -> None:
    """Raises if the object is of a kind that is not listed here, or has a field that is not."""
    if thing["kind"] == "WorkloadPriorityClass":
        WorkloadPriorityClass.model_validate(thing)
        return
    assert set(thing) == {"apiVersion", "kind", "metadata", "spec"}, sorted(thing)
    Metadata.model_validate(thing["metadata"])
    SPECS[thing["apiVersion"], thing["kind"]].model_validate(thing["spec"])
