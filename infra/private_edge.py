"""The address traffic enters a private site at, and who answers for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.settings_pool import CILIUM, METALLB

NAME: Final = "tandem-edge"
METALLB_ADDRESS: Final = "metallb.io/loadBalancerIPs"
"""https://metallb.io/usage/#requesting-specific-ips"""
CILIUM_ADDRESS: Final = "lbipam.cilium.io/ips"
"""https://docs.cilium.io/en/stable/network/lb-ipam/#requesting-ips"""


@dataclass(frozen=True, kw_only=True)
class PrivateEdgeArgs:
    """The address, who hands it out and what the world calls it."""

    mode: str
    address: str
    """The virtual address inside of the site."""
    public_address: str
    """What DNS names: the same, or that of a NAT before it."""
    service_labels: dict[str, str]
    """Labels that find the one Service the address is for."""
    namespace: str = "metallb-system"
    interfaces: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)


class PrivateEdge(pulumi.ComponentResource):
    """One address that only the Service meant by it gets; its outputs say what that Service has to ask for."""

    address: Output[str]
    """What the world reaches the site at."""
    annotations: Output[dict[str, str]]
    traffic_policy: str

    def __init__(self, name: str, args: PrivateEdgeArgs, opts: ResourceOptions | None = None) -> None:
        """`opts` carries the provider of the cluster workloads run in."""
        super().__init__("tandem:private_edge:PrivateEdge", name, {}, opts)
        asked: dict[str, str] = {}
        made: list[CustomResource] = []
        if args.mode == METALLB:
            asked, made = {METALLB_ADDRESS: args.address}, self._metallb(name, args)
        elif args.mode == CILIUM:
            asked, made = {CILIUM_ADDRESS: args.address}, self._cilium(name, args)
        # Local keeps the client's address, so that a NetworkPolicy can tell one from another. Cilium announces an
        # address from any node, also one without a pod behind it, which would drop what comes
        # (https://docs.cilium.io/en/stable/network/l2-announcements/#limitations).
        self.traffic_policy = "Cluster" if args.mode == CILIUM else "Local"
        # Known only once the address is declared: what reads it waits for that.
        stands = Output.all(*(each.id for each in made))
        self.address = stands.apply(lambda _: args.public_address)
        self.annotations = stands.apply(lambda _: asked)
        self.register_outputs({"address": self.address, "annotations": self.annotations})

    def _metallb(self, name: str, args: PrivateEdgeArgs) -> list[CustomResource]:
        metadata = ObjectMetaArgs(name=NAME, namespace=args.namespace, labels=args.labels)
        # Only a Service that asks for the address by name gets it.
        spec = {"addresses": [f"{args.address}/32"], "autoAssign": False}
        pool = self._resource(name, "metallb.io/v1beta1", "IPAddressPool", metadata, spec)
        announced: dict[str, Any] = {"ipAddressPools": [NAME]}
        if args.interfaces:
            announced["interfaces"] = list(args.interfaces)
        return [
            pool,
            self._resource(
                f"{name}-announcement", "metallb.io/v1beta1", "L2Advertisement", metadata, announced, after=[pool]
            ),
        ]

    def _cilium(self, name: str, args: PrivateEdgeArgs) -> list[CustomResource]:
        """LB IPAM gives out the address, the announcement answers for it; both are of the whole cluster."""
        metadata = ObjectMetaArgs(name=NAME, labels=args.labels)
        only = {"serviceSelector": {"matchLabels": args.service_labels}}
        pool = self._resource(
            name,
            "cilium.io/v2alpha1",
            "CiliumLoadBalancerIPPool",
            metadata,
            {"blocks": [{"cidr": f"{args.address}/32"}], **only},
        )
        announced: dict[str, Any] = {"loadBalancerIPs": True, **only}
        if args.interfaces:
            announced["interfaces"] = list(args.interfaces)
        return [
            pool,
            self._resource(
                f"{name}-announcement",
                "cilium.io/v2alpha1",
                "CiliumL2AnnouncementPolicy",
                metadata,
                announced,
                after=[pool],
            ),
        ]

    def _resource(
        self,
        name: str,
        api_version: str,
        kind: str,
        metadata: ObjectMetaArgs,
        spec: dict[str, Any],
        after: list[pulumi.Resource] | None = None,
    ) -> CustomResource:
        return CustomResource(
            name,
            api_version=api_version,
            kind=kind,
            metadata=metadata,
            spec=spec,
            opts=ResourceOptions(parent=self, depends_on=after),
        )
