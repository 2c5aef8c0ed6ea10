"""AWS arguments of which both values decide whether a change replaces the resource (CustomizeDiff of the provider).

Each rule names the file it was read from, under
https://github.com/hashicorp/terraform-provider-aws/tree/main/internal/service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from infra.policies.declared import UNKNOWN
from stacks.preview.effect import Effect, Verdict

Inputs = Mapping[str, Any]
Rule = Callable[[Inputs, Inputs], Verdict]


def condition(kind: str, path: str) -> Rule | None:
    """The rule for a change at `path` of a resource of this type token; None where values decide nothing."""
    for argument, rule in CONDITIONS.get(kind, {}).items():
        if path == argument or path.startswith((f"{argument}.", f"{argument}[")):
            return rule
    return None


def _encryption(old: Inputs, new: Inputs) -> Verdict:
    """EKS: resourceCluster, ForceNewIfChange of encryption_config (eks/cluster.go)."""
    before, after = old.get("encryptionConfig"), new.get("encryptionConfig")
    if after and not before:
        return Verdict(Effect.UPDATE, "EKS encrypts a cluster's secrets from now on, in place")
    if before and not after:
        return Verdict(Effect.REPLACE, "EKS cannot stop encrypting a cluster's secrets")
    return Verdict(
        Effect.MAY_REPLACE, "EKS gives a cluster no other key: the provider replaces it or leaves the old key"
    )


def _compute(old: Inputs, new: Inputs) -> Verdict:
    """EKS: resourceCluster, CustomizeDiff of compute_config (eks/cluster.go)."""
    before, after = ((each.get("computeConfig") or {}).get("nodeRoleArn") for each in (old, new))
    if not before or not new.get("computeConfig"):
        return Verdict(Effect.UPDATE, "a first role of EKS's own nodes is taken in place")
    if UNKNOWN in {before, after}:
        return Verdict(Effect.MAY_REPLACE, "another role of EKS's own nodes replaces the cluster")
    return Verdict(Effect.REPLACE, "EKS cannot give its own nodes another role")


def _balancer(argument: str) -> Rule:
    """ELB: customizeDiffLoadBalancerNLB (elbv2/load_balancer.go); other balancers are left to the provider."""

    def rule(old: Inputs, new: Inputs) -> Verdict:
        if new.get("loadBalancerType") != "network":
            return Verdict(Effect.MAY_REPLACE, "it hangs on the type of balancer: the provider decides")
        before, after = old.get(argument) or [], new.get(argument) or []
        if not isinstance(before, list) or not isinstance(after, list):
            return Verdict(Effect.MAY_REPLACE, "the list is known after up only: the provider decides")
        return _groups(before, after) if argument == "securityGroups" else _places(argument, before, after)

    return rule


def _groups(before: list[Any], after: list[Any]) -> Verdict:
    if bool(before) != bool(after):
        return Verdict(Effect.REPLACE, "a network load balancer has security groups for life, or none")
    return Verdict(Effect.UPDATE, "a network load balancer that has security groups takes others in place")


def _places(argument: str, before: list[Any], after: list[Any]) -> Verdict:
    if len(after) < len(before):
        return Verdict(Effect.REPLACE, "a network load balancer leaves no subnet")
    if len(after) > len(before) and argument == "subnets":
        return Verdict(Effect.UPDATE, "a network load balancer takes one more subnet in place")
    if UNKNOWN in repr((before, after)):
        return Verdict(Effect.MAY_REPLACE, "one more subnet is taken in place; another subnet or address replaces")
    if len(after) > len(before) and all(each in after for each in before):
        return Verdict(Effect.UPDATE, "a network load balancer takes one more subnet in place")
    return Verdict(Effect.REPLACE, "a network load balancer keeps its subnets and addresses")


def _tenancy(old: Inputs, new: Inputs) -> Verdict:
    """EC2: resourceVPCCustomizeDiff (ec2/vpc_.go)."""
    if old.get("instanceTenancy") == "dedicated" and new.get("instanceTenancy") in {None, "default"}:
        return Verdict(Effect.UPDATE, "a VPC goes back from dedicated to default tenancy in place")
    return Verdict(Effect.REPLACE, "a VPC takes no tenancy but the default in place")


def _private_dns(old: Inputs, new: Inputs) -> Verdict:  # noqa: ARG001 - a rule is asked with both
    """EC2: the documentation of private_dns_enabled (ec2/vpc_endpoint.go)."""
    if new.get("vpcEndpointType") == "Interface":
        return Verdict(Effect.UPDATE, "an interface endpoint changes it in place")
    return Verdict(Effect.REPLACE, "only an interface endpoint changes it in place")


CONDITIONS: Final[Mapping[str, Mapping[str, Rule]]] = {
    "aws:ec2/vpc:Vpc": {"instanceTenancy": _tenancy},
    "aws:ec2/vpcEndpoint:VpcEndpoint": {"privateDnsEnabled": _private_dns},
    "aws:eks/cluster:Cluster": {"encryptionConfig": _encryption, "computeConfig.nodeRoleArn": _compute},
    "aws:lb/loadBalancer:LoadBalancer": {
        argument: _balancer(argument) for argument in ("securityGroups", "subnetMappings", "subnets")
    },
}
