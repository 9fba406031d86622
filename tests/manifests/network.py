"""What network policies let through, as a network plugin reads them.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from tests.manifests.rendering import Object


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or an address outside the cluster.

    Attributes:
        labels: The pod's labels; empty for an address.
        namespace: The pod's namespace; None for an address.
        address: Of what is no pod.
        namespace_labels: Those that the namespace has beside its name.
    """

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str | None = None
    address: str = ""
    namespace_labels: dict[str, str] = field(default_factory=dict)


def passes(policies: list[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is allowed at both of its ends. Namespaces without policies let everything through."""
    return all(
        _allows(policies, here, there, direction, port, protocol)
        for here, there, direction in ((source, target, "egress"), (target, source, "ingress"))
    )


def _allows(policies: list[Object], here: End, there: End, direction: str, port: int, protocol: str) -> bool:
    own = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == here.namespace
        and direction.capitalize() in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], here.labels)
    ]
    if not own:
        return True
    key = "to" if direction == "egress" else "from"
    return any(
        _is_among(rule.get(key), there, here.namespace) and _has_port(rule.get("ports"), port, protocol)
        for spec in own
        for rule in spec.get(direction, [])
    )


def _is_among(peers: list[dict[str, Any]] | None, end: End, namespace: str | None) -> bool:
    return peers is None or any(_is_peer(peer, end, namespace) for peer in peers)


def _is_peer(peer: dict[str, Any], end: End, namespace: str | None) -> bool:
    if block := peer.get("ipBlock"):
        # Plugins differ in whether a block covers pods: do not count on it.
        return bool(end.address) and _covers(block, end.address)
    if end.namespace is None:
        return False
    if (selector := peer.get("namespaceSelector")) is not None:
        labels = end.namespace_labels | {"kubernetes.io/metadata.name": end.namespace}
        if not _selects(selector, labels):
            return False
    elif end.namespace != namespace:
        return False
    return _selects(peer.get("podSelector", {}), end.labels)


def _covers(block: dict[str, Any], address: str) -> bool:
    inside = ip_address(address)
    return inside in ip_network(block["cidr"]) and not any(inside in ip_network(e) for e in block.get("except", []))


def _has_port(ports: list[dict[str, Any]] | None, port: int, protocol: str) -> bool:
    return ports is None or any((p["port"], p.get("protocol", "TCP")) == (port, protocol) for p in ports)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_meets(expression, labels) for expression in selector.get("matchExpressions", []))


def _meets(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    match expression["operator"]:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case other:
            raise ValueError(f"no such operator: {other}")
