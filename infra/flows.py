"""Which connections the pods of a site may open and take; every other one is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.networking.v1 import (
    IPBlockArgs,
    NetworkPolicy,
    NetworkPolicyEgressRuleArgs,
    NetworkPolicyIngressRuleArgs,
    NetworkPolicyPeerArgs,
    NetworkPolicyPortArgs,
    NetworkPolicySpecArgs,
)

from infra import gateway, lease, naming, triton
from infra.settings_serving import ANYWHERE

LINK_LOCAL: Final = "169.254.0.0/16"
"""A machine's own services, the instance metadata with its credentials among them: never part of anywhere."""
IDENTITY_AGENT: Final = "169.254.170.23/32"
"""Where EKS Pod Identity hands out credentials, at port 80
(https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html)."""
HTTPS: Final = 443
API_PORTS: Final = (HTTPS, 6443)
"""Of the Service `kubernetes`, and of the API servers behind it: plugins differ in which of the two they look at."""
HEARTBEAT: Final = "heartbeat"
"""What says that a site is golden where no checker reaches it."""
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
DNS: Final = {"k8s-app": "kube-dns"}
"""CoreDNS under EKS and kubeadm."""


@dataclass(frozen=True, kw_only=True)
class FlowsArgs:
    """Whose pods, where the gateways listen, and where the pods have to get to."""

    site: str
    namespace: Input[str]
    gateway_port: int
    store_port: Input[int]
    other_store_ports: tuple[int, ...] = ()
    """Of other sites' stores, where a drill's undo takes marks back; 443 and the site's own are open to it anyhow."""
    store_cidrs: tuple[str, ...] = (ANYWHERE,)
    api_cidrs: tuple[str, ...] = (ANYWHERE,)
    dns_cidrs: tuple[str, ...] = ()
    """Name servers beside the cluster's own pods: a cache on each node, for example."""
    monitoring_namespace: Input[str]
    identity_agent: bool = False
    """Whether pods get their identity from an agent on their node."""


def port_of(url: str) -> int:
    """The port of a store's endpoint; HTTPS where the region's own is meant."""
    parsed = urlsplit(url)
    return parsed.port or (80 if parsed.scheme == "http" else HTTPS)


class Flows(pulumi.ComponentResource):
    """Users reach gateways, gateways reach model servers, pods reach their store, and nothing reaches anything else.

    Policies only ever allow; a site is cut by taking the sources out of the one that lets users in.
    """

    gateway_policy: Output[str]

    def __init__(self, name: str, args: FlowsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:flows:Flows", name, {}, opts)
        self._name, self._args = name, args
        gateways, servers, undos = (
            LabelSelectorArgs(match_labels=naming.selector(role)) for role in (gateway.NAME, triton.NAME, lease.UNDO)
        )
        every = LabelSelectorArgs()
        self._policy("default", "default-deny", every, ["Ingress", "Egress"], takes=[], opens=[])
        self._opens("dns", every, [_to(self._name_servers(), 53, protocols=("UDP", "TCP"))])

        # The heartbeat of a site that goes by an alarm comes in like a user: cut off users, and it is cut off too.
        heartbeat = LabelSelectorArgs(match_labels=naming.selector(HEARTBEAT))
        users = _from(
            [
                NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr=ANYWHERE)),
                NetworkPolicyPeerArgs(pod_selector=heartbeat),
            ],
            args.gateway_port,
        )
        allowed = self._policy(gateway.NAME, gateway.NAME, gateways, ["Ingress"], takes=[users])
        # A policy of its own: a drill that cuts users off must not make the site look dead to its metrics.
        self._takes("gateway-metrics", gateways, [_from(self._monitoring(), args.gateway_port)])
        # HTTP is for the kubelet's probes, which come from the pod's own node and are let in by every plugin.
        inference = _from([NetworkPolicyPeerArgs(pod_selector=gateways)], triton.PORTS["grpc"])
        self._takes(triton.NAME, servers, [inference, _from(self._monitoring(), triton.PORTS["metrics"])])

        store = [_to(_blocks(args.store_cidrs), args.store_port), *self._identity()]
        asks = _to([NetworkPolicyPeerArgs(pod_selector=servers)], triton.PORTS["grpc"])
        self._opens("gateway-calls", gateways, [asks, *store])
        self._opens("triton-calls", servers, store)
        api = _to(_blocks(args.api_cidrs), *API_PORTS)
        others = _to(_blocks([ANYWHERE]), *sorted({HTTPS, *args.other_store_ports}))
        self._opens("undo-calls", undos, [api, *store, others])
        self.gateway_policy = allowed.metadata.name
        self.register_outputs({"gateway_policy": self.gateway_policy})

    def _name_servers(self) -> list[NetworkPolicyPeerArgs]:
        pods = NetworkPolicyPeerArgs(
            namespace_selector=LabelSelectorArgs(match_labels={NAMESPACE_NAME: "kube-system"}),
            pod_selector=LabelSelectorArgs(match_labels=DNS),
        )
        return [pods, *_blocks(self._args.dns_cidrs)]

    def _monitoring(self) -> list[NetworkPolicyPeerArgs]:
        labels: dict[str, Input[str]] = {NAMESPACE_NAME: self._args.monitoring_namespace}
        return [NetworkPolicyPeerArgs(namespace_selector=LabelSelectorArgs(match_labels=labels))]

    def _identity(self) -> list[NetworkPolicyEgressRuleArgs]:
        return [_to(_blocks([IDENTITY_AGENT]), 80)] if self._args.identity_agent else []

    def _takes(self, called: str, pods: LabelSelectorArgs, rules: list[NetworkPolicyIngressRuleArgs]) -> None:
        self._policy(called, called, pods, ["Ingress"], takes=rules)

    def _opens(self, called: str, pods: LabelSelectorArgs, rules: list[NetworkPolicyEgressRuleArgs]) -> None:
        self._policy(called, called, pods, ["Egress"], opens=rules)

    def _policy(
        self,
        role: str,
        called: str,
        pods: LabelSelectorArgs,
        ways: list[str],
        *,
        takes: list[NetworkPolicyIngressRuleArgs] | None = None,
        opens: list[NetworkPolicyEgressRuleArgs] | None = None,
    ) -> NetworkPolicy:
        """These pods take and open these connections."""
        return NetworkPolicy(
            f"{self._name}-{role}",
            metadata=ObjectMetaArgs(
                name=called,
                namespace=self._args.namespace,
                labels=naming.labels(self._args.site, called),
                annotations=naming.declared_wins(),
            ),
            spec=NetworkPolicySpecArgs(pod_selector=pods, policy_types=ways, ingress=takes, egress=opens),
            opts=ResourceOptions(parent=self),
        )


def _blocks(cidrs: Sequence[str]) -> list[NetworkPolicyPeerArgs]:
    """Where a pod may go; anywhere is not its own machine."""
    return [
        NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr=cidr, except_=[LINK_LOCAL] if cidr == ANYWHERE else None))
        for cidr in cidrs
    ]


def _from(peers: list[NetworkPolicyPeerArgs], port: int) -> NetworkPolicyIngressRuleArgs:
    return NetworkPolicyIngressRuleArgs(from_=peers, ports=_ports(("TCP",), port))


def _to(
    peers: list[NetworkPolicyPeerArgs], *ports: Input[int], protocols: tuple[str, ...] = ("TCP",)
) -> NetworkPolicyEgressRuleArgs:
    return NetworkPolicyEgressRuleArgs(to=peers, ports=_ports(protocols, *ports))


def _ports(protocols: tuple[str, ...], *numbers: Input[int]) -> list[NetworkPolicyPortArgs]:
    return [NetworkPolicyPortArgs(protocol=protocol, port=number) for number in numbers for protocol in protocols]
