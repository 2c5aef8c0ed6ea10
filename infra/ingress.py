"""Who may open a connection to a serving pod."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.networking.v1 import (
    IPBlockArgs,
    NetworkPolicy,
    NetworkPolicyIngressRuleArgs,
    NetworkPolicyPeerArgs,
    NetworkPolicyPortArgs,
    NetworkPolicySpecArgs,
)

from infra import gateway, naming, triton

ANYONE: Final = "0.0.0.0/0"


@dataclass(frozen=True, kw_only=True)
class IngressArgs:
    """Whose pods, and where the gateways listen."""

    site: str
    namespace: Input[str]
    gateway_port: int


class Ingress(pulumi.ComponentResource):
    """Users reach gateways, gateways reach model servers, and nobody reaches anything else.

    Policies only ever allow; a site is cut by taking the sources out of the one that allows them.
    """

    gateway_policy: Output[str]

    def __init__(self, name: str, args: IngressArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:ingress:Ingress", name, {}, opts)
        gateways = LabelSelectorArgs(match_labels=naming.selector(gateway.NAME))
        whole_project = LabelSelectorArgs(match_labels={naming.PROJECT_KEY: naming.PROJECT})
        self._policy(f"{name}-default", "default-deny", args, whole_project, [])
        users = NetworkPolicyIngressRuleArgs(
            from_=[NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr=ANYONE))], ports=_ports(args.gateway_port)
        )
        allowed = self._policy(f"{name}-gateway", gateway.NAME, args, gateways, [users])
        inference = NetworkPolicyIngressRuleArgs(
            from_=[NetworkPolicyPeerArgs(pod_selector=gateways)],
            ports=_ports(triton.PORTS["grpc"], triton.PORTS["http"]),
        )
        metrics = NetworkPolicyIngressRuleArgs(
            from_=[NetworkPolicyPeerArgs(pod_selector=LabelSelectorArgs())], ports=_ports(triton.PORTS["metrics"])
        )
        servers = LabelSelectorArgs(match_labels=naming.selector(triton.NAME))
        self._policy(f"{name}-triton", triton.NAME, args, servers, [inference, metrics])
        self.gateway_policy = allowed.metadata.name
        self.register_outputs({"gateway_policy": self.gateway_policy})

    def _policy(
        self,
        name: str,
        called: str,
        args: IngressArgs,
        pods: LabelSelectorArgs,
        rules: list[NetworkPolicyIngressRuleArgs],
    ) -> NetworkPolicy:
        """These pods are reached by these rules."""
        return NetworkPolicy(
            name,
            metadata=ObjectMetaArgs(
                name=called,
                namespace=args.namespace,
                labels=naming.labels(args.site, called),
                annotations=naming.declared_wins(),
            ),
            spec=NetworkPolicySpecArgs(pod_selector=pods, policy_types=["Ingress"], ingress=rules),
            opts=ResourceOptions(parent=self),
        )


def _ports(*numbers: int) -> list[NetworkPolicyPortArgs]:
    return [NetworkPolicyPortArgs(protocol="TCP", port=number) for number in numbers]
