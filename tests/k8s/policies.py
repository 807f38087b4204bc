"""What a set of NetworkPolicies lets through, by the rules of the Kubernetes documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.k8s.rendering import Object


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it; `ports` are its named ones; without a namespace it is outside."""

    labels: Mapping[str, str]
    namespace: str = "okamochi"
    namespace_labels: Mapping[str, str] | None = None
    ports: Mapping[str, int] | None = None

    @property
    def all_namespace_labels(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **(self.namespace_labels or {})}


OUTSIDE = Pod({}, namespace="")


def allowed(policies: Sequence[Object], source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
    """Whether source may connect to target: its egress and the other's ingress must both allow it."""
    return _passes(policies, "Egress", source, target, target, port, protocol) and _passes(
        policies, "Ingress", target, source, target, port, protocol
    )


def _passes(  # noqa: PLR0917
    policies: Sequence[Object], way: str, of: Pod, peer: Pod, target: Pod, port: int, protocol: str
) -> bool:
    chosen = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == of.namespace
        and way in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], of.labels)
    ]
    if not chosen:
        return True
    key = "to" if way == "Egress" else "from"
    return any(
        _peer(rule.get(key), peer, of.namespace) and _port(rule.get("ports"), target, port, protocol)
        for spec in chosen
        for rule in spec.get(way.lower(), [])
    )


def _peer(peers: Sequence[Any] | None, pod: Pod, home: str) -> bool:
    if not peers:
        return True
    for peer in peers:
        assert not set(peer) - {"podSelector", "namespaceSelector"}, "ipBlock is not understood here"
        if not pod.namespace:
            continue
        in_namespace = (
            selects(peer["namespaceSelector"], pod.all_namespace_labels)
            if "namespaceSelector" in peer
            else pod.namespace == home
        )
        if in_namespace and selects(peer.get("podSelector", {}), pod.labels):
            return True
    return False


def _port(ports: Sequence[Any] | None, target: Pod, port: int, protocol: str) -> bool:
    if not ports:
        return True
    named = target.ports or {}
    return any(
        each.get("protocol", "TCP") == protocol and named.get(each["port"], each["port"]) == port
        for each in ports
    )


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", rule
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True
