"""NetworkPolicies as questions: who may reach this port of this pod, and who may go there? Pure; allows add up."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.kubernetes.api.objects import Object, labels_of, namespace_of
from lab.kubernetes.api.selectors import matches_selector


@dataclass(frozen=True)
class Block:
    """A network of sources, without some of its parts."""

    network: ipaddress.IPv4Network
    excepted: tuple[ipaddress.IPv4Network, ...] = ()

    def __contains__(self, address: ipaddress.IPv4Address) -> bool:
        return address in self.network and not any(address in each for each in self.excepted)


@dataclass(frozen=True)
class PodPeer:
    """Pods that may come in: of which namespaces, with which labels."""

    own_namespace: str
    """The policy's; it counts where no namespaceSelector is given."""
    namespaces: Mapping[str, Any] | None
    pods: Mapping[str, Any] | None

    def matches(self, pod: Object, namespace_labels: Mapping[str, str]) -> bool:
        """Whether a pod, whose namespace has these labels, is one of them."""
        if self.namespaces is None:
            if namespace_of(pod) != self.own_namespace:
                return False
        elif not matches_selector(self.namespaces, namespace_labels):
            return False
        return self.pods is None or matches_selector(self.pods, labels_of(pod))


@dataclass(frozen=True)
class Admission:
    """Who may reach one port of one pod."""

    everyone: bool = False
    blocks: tuple[Block, ...] = ()
    peers: tuple[PodPeer, ...] = ()

    @property
    def nobody(self) -> bool:
        """Whether no source at all may."""
        return not (self.everyone or self.blocks or self.peers)

    def of_address(self, address: str) -> bool:
        """Whether a source outside of the cluster may."""
        if self.everyone or not self.blocks:
            return self.everyone
        source = ipaddress.IPv4Address(address)
        return any(source in block for block in self.blocks)

    def of_pod(self, pod: Object, namespace_labels: Mapping[str, str]) -> bool:
        """Whether this pod may, by its labels or by its own address."""
        if self.everyone or any(peer.matches(pod, namespace_labels) for peer in self.peers):
            return True
        address = (pod.get("status") or {}).get("podIP")
        return address is not None and self.of_address(address)

    def __or__(self, other: Admission) -> Admission:
        return Admission(
            self.everyone or other.everyone,
            tuple(dict.fromkeys(self.blocks + other.blocks)),
            self.peers + tuple(peer for peer in other.peers if peer not in self.peers),
        )


EVERYONE = Admission(everyone=True)
NOBODY = Admission()


def admission(policies: Iterable[Object], pod: Object, port: int, protocol: str = "TCP") -> Admission:
    """Everyone while no policy selects the pod for ingress; else what all of them together let in."""
    selecting = [each for each in policies if selects(each, pod)]
    if not selecting:
        return EVERYONE
    found = NOBODY
    for policy in selecting:
        for rule in policy["spec"].get("ingress") or []:
            if _opens(rule, pod, port, protocol):
                found |= _peers(rule, namespace_of(policy))
    return found


def may_go(
    policies: Iterable[Object], caller: Object, pod: Object, namespace_labels: Mapping[str, str], port: int
) -> bool:
    """Whether the caller may open a connection to this port of a pod, whose namespace has these labels."""
    selecting = [each for each in policies if rules_going(each) and _chosen(each, caller)]
    return not selecting or any(
        _opens(rule, pod, port, "TCP") and _peers(rule, namespace_of(policy), "to").of_pod(pod, namespace_labels)
        for policy in selecting
        for rule in policy["spec"].get("egress") or []
    )


def selects(policy: Object, pod: Object) -> bool:
    """Whether the policy rules what comes in to this pod."""
    return "Ingress" in _types(policy) and _chosen(policy, pod)


def rules_going(policy: Object) -> bool:
    """Whether the policy rules what pods send out."""
    return "Egress" in _types(policy)


def _types(policy: Object) -> list[str]:
    found: list[str] = policy["spec"].get("policyTypes") or ["Ingress"]
    return found


def _chosen(policy: Object, pod: Object) -> bool:
    return namespace_of(policy) == namespace_of(pod) and matches_selector(
        policy["spec"].get("podSelector") or {}, labels_of(pod)
    )


def _opens(rule: Mapping[str, Any], pod: Object, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(_is(each, pod, port, protocol) for each in ports)


def _is(entry: Mapping[str, Any], pod: Object, port: int, protocol: str) -> bool:
    if (entry.get("protocol") or "TCP") != protocol:
        return False
    wanted = entry.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return wanted <= port <= int(entry.get("endPort") or wanted)
    return any(
        declared.get("name") == wanted
        and declared["containerPort"] == port
        and (declared.get("protocol") or "TCP") == protocol
        for container in pod["spec"].get("containers") or []
        for declared in container.get("ports") or []
    )


def _peers(rule: Mapping[str, Any], namespace: str, way: str = "from") -> Admission:
    others = rule.get(way)
    if not others:
        return EVERYONE
    # the lab has no IPv6: a block of it lets nobody in
    blocks = tuple(_block(each["ipBlock"]) for each in others if "." in (each.get("ipBlock") or {}).get("cidr", ""))
    peers = tuple(
        PodPeer(namespace, each.get("namespaceSelector"), each.get("podSelector"))
        for each in others
        if not each.get("ipBlock")
    )
    return Admission(blocks=blocks, peers=peers)


def _block(block: Mapping[str, Any]) -> Block:
    network = ipaddress.IPv4Network(block["cidr"], strict=False)
    return Block(network, tuple(ipaddress.IPv4Network(each, strict=False) for each in block.get("except") or []))
