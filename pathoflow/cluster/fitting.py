"""Checks that a stage's pod fits on a node that is there: labels, taints, and what is left of its resources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from kubernetes import client
from kubernetes.utils import parse_quantity

from pathoflow.contract.recipe import Compute, Recipe

Amounts = Mapping[str, Decimal]
"""Resources by name, in cores, bytes and pieces."""


class Node(NamedTuple):
    """A node that takes pods.

    Attributes:
        name: Its name.
        labels: Its labels.
        taints: Those that keep a pod without a toleration away.
        free: What its pods have not asked for.
        allocatable: What it has for pods in all.
    """

    name: str
    labels: Mapping[str, str]
    taints: list[Any]
    free: Amounts
    allocatable: Amounts = MappingProxyType({})


def wanted(recipe: Recipe | None) -> Iterator[tuple[str, int, Amounts]]:
    """For each stage that names its compute: how many pods work at once on it, and what each asks for.

    The shards of a stage are not counted: they run as there is room.
    """
    for stage, compute in (recipe.compute if recipe else {}).items():
        asked = {"cpu": compute.cpu, "memory": compute.memory, compute.gpu_resource: compute.gpus_per_node or None}
        amounts = {name: parse_quantity(str(value)) for name, value in asked.items() if value}
        if amounts:
            yield stage, compute.nodes, amounts


def free_nodes(api: client.ApiClient) -> list[Node]:
    """The nodes that are ready and take pods, with what is left on each."""
    core = client.CoreV1Api(api)
    pods = core.list_pod_for_all_namespaces(field_selector="status.phase!=Succeeded,status.phase!=Failed").items
    nodes = []
    for node in core.list_node().items:
        ready = any(state.type == "Ready" and state.status == "True" for state in node.status.conditions or [])
        if not ready or node.spec.unschedulable:
            continue
        allocatable = {name: parse_quantity(amount) for name, amount in (node.status.allocatable or {}).items()}
        free = dict(allocatable)
        for pod in (pod for pod in pods if pod.spec.node_name == node.metadata.name):
            for container in pod.spec.containers:
                for name, amount in ((container.resources and container.resources.requests) or {}).items():
                    free[name] = free.get(name, Decimal(0)) - parse_quantity(amount)
        taints = [taint for taint in node.spec.taints or [] if taint.effect != "PreferNoSchedule"]
        nodes.append(Node(node.metadata.name, node.metadata.labels or {}, taints, free, allocatable))
    return nodes


def why_none_fits(nodes: list[Node], compute: Compute, amounts: Amounts, pods: int = 1) -> str:
    """Why the nodes have no room for a stage's pods; empty if they have.

    >>> node = Node("a", {}, [], {"cpu": Decimal(4)})
    >>> why_none_fits([node], Compute(cpu="8"), {"cpu": Decimal(8)})
    'of 1 nodes, 1 lack cpu (most: 4 of 8)'
    >>> why_none_fits([node], Compute(cpu="2"), {"cpu": Decimal(2)}, pods=2)
    ''
    >>> why_none_fits([node], Compute(cpu="2"), {"cpu": Decimal(2)}, pods=3)
    'of 1 nodes, there is room for 2 of 3 pods'
    """
    reasons = []
    here = [node for node in nodes if compute.node_selector.items() <= node.labels.items()]
    if len(here) < len(nodes):
        reasons.append(f"{len(nodes) - len(here)} lack the labels of node_selector")
    open_ones = [node for node in here if all(_tolerated(taint, compute) for taint in node.taints)]
    if len(open_ones) < len(here):
        reasons.append(f"{len(here) - len(open_ones)} have a taint that is not tolerated")
    for name, amount in amounts.items():
        large = [node for node in open_ones if node.free.get(name, Decimal(0)) >= amount]
        if len(large) < len(open_ones):
            most = max(node.free.get(name, Decimal(0)) for node in open_ones)
            reasons.append(
                f"{len(open_ones) - len(large)} lack {name} (most: {shown(name, most)} of {shown(name, amount)})"
            )
        open_ones = large
    if not open_ones:
        return f"of {len(nodes)} nodes, {', '.join(reasons) or 'none is ready'}"
    room = (
        sum(min(int(node.free[name] // amount) for name, amount in amounts.items()) for node in open_ones)
        if amounts
        else pods
    )
    if room < pods:
        return f"of {len(nodes)} nodes, {', '.join([*reasons, f'there is room for {room} of {pods} pods'])}"
    return ""


def shown(name: str, amount: Decimal) -> str:
    """An amount of a resource as people write it.

    >>> shown("requests.memory", Decimal(2**36)), shown("cpu", Decimal("0.5"))
    ('64Gi', '0.5')
    """
    if "memory" in name or "storage" in name:
        return f"{amount / 2**30:.4g}Gi"
    return f"{amount.normalize():f}"


def _tolerated(taint: Any, compute: Compute) -> bool:
    return any(
        toleration.key == taint.key
        and toleration.effect in ("", taint.effect)
        and (toleration.operator == "Exists" or toleration.value == taint.value)
        for toleration in compute.tolerations
    )
