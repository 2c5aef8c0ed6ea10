"""ELBv2: network load balancers; the site's edge process carries their traffic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of, from_tag_list, to_tag_list
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import SITE_TAG, known, matches, one_of, site_rules
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming

EDGE_TAG: Final = "tandem.io/edge-address"
"""Tag the lab adds to a load balancer: the address its traffic enters at."""
_GONE: Final = {"LoadBalancerNotFound", "TargetGroupNotFound", "ListenerNotFound"}
_CANONICAL_ZONE: Final = "Z26RNL4JYFTOTI"
"""Hosted zone of network load balancers in us-east-1, from AWS's table of endpoints."""


class ElbType(AwsType):
    """A resource of ELBv2: its id is its ARN."""

    naming: ClassVar[Naming | None] = Naming(longest=32, instead=("namePrefix",))
    listing: ClassVar[tuple[str, str, str, str]]
    """Describe method, its ARNs argument, the key of its answer and the key of an ARN."""

    def live(self, cloud: Cloud, identity: str) -> dict[str, Any] | None:
        """What the API says about it, or None when it is gone."""
        method, argument, key, _ = self.listing
        try:
            found = getattr(cloud.client("elbv2"), method)(**{argument: [identity]})[key]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        return dict(found[0]) if found else None

    def tags(self, cloud: Cloud, identity: str) -> dict[str, str]:
        """The tags programs know of."""
        answer = cloud.client("elbv2").describe_tags(ResourceArns=[identity])["TagDescriptions"]
        return from_tag_list(answer[0].get("Tags")) if answer else {}

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        client = cloud.client("elbv2")
        if tags:
            client.add_tags(ResourceArns=[identity], Tags=to_tag_list(tags))
        if removed:
            client.remove_tags(ResourceArns=[identity], TagKeys=removed)

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        method, _, key, arn = self.listing
        scope = {"LoadBalancerArn": inputs["loadBalancerArn"]} if "loadBalancerArn" in inputs else {}
        try:
            found = [item[arn] for item in getattr(cloud.client("elbv2"), method)(**scope)[key]]
        except ClientError as error:
            if code_of(error) in _GONE:
                return
            raise
        for identity in found:
            yield identity, self.tags(cloud, identity).get(MARKER_TAG)


class LoadBalancer(ElbType):
    """A network load balancer that stands at its site's edge address."""

    type_name = "aws:lb/loadBalancer:LoadBalancer"
    listing = ("describe_load_balancers", "LoadBalancerArns", "LoadBalancers", "LoadBalancerArn")
    defaults: ClassVar = {"internal": False, "loadBalancerType": "application", "enableDeletionProtection": False}
    replace_on = ("name", "namePrefix", "internal", "loadBalancerType", "customerOwnedIpv4Pool", "region")
    in_place = ("enableDeletionProtection", "enableCrossZoneLoadBalancing", "subnets", "subnetMappings")
    lasting = ("enableCrossZoneLoadBalancing",)
    unordered = frozenset({"subnets", "securityGroups", "subnetMappings"})
    blank: ClassVar = {
        "enablePrefixForIpv6SourceNat": "off",
        "enforceSecurityGroupInboundRulesOnPrivateLinkTraffic": "",
        "namePrefix": "",
        "secondaryIpsAutoAssignedPerSubnet": 0,
        "securityGroups": [],
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from name_rules(inputs)
        yield from one_of(inputs, "loadBalancerType", "network")
        yield from one_of(inputs, "ipAddressType", "ipv4", "dualstack")
        yield from site_rules(cloud, inputs, required=True)
        if (inputs.get("subnets") is None) == (inputs.get("subnetMappings") is None):
            yield Failure("subnets", "exactly one of subnets and subnetMappings has to be set: give one of the two")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        arguments: dict[str, Any] = {
            "Name": inputs["name"],
            "Type": inputs["loadBalancerType"],
            "Scheme": "internal" if inputs["internal"] else "internet-facing",
            "Tags": to_tag_list({**tags, EDGE_TAG: self._edge(cloud, tags)}),
        }
        if inputs.get("subnets"):
            arguments["Subnets"] = inputs["subnets"]
        else:
            arguments["SubnetMappings"] = [_mapping(item) for item in inputs["subnetMappings"]]
        if inputs.get("securityGroups"):
            arguments["SecurityGroups"] = inputs["securityGroups"]
        client = cloud.client("elbv2")
        refuse_taken(client, "describe_load_balancers", "load balancer", inputs["name"])
        identity: str = client.create_load_balancer(**arguments)["LoadBalancers"][0]["LoadBalancerArn"]
        self.update(cloud, identity, {}, inputs)
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        if found is None:
            return None
        zones = found.get("AvailabilityZones") or []
        subnets = [zone["SubnetId"] for zone in zones if "SubnetId" in zone]
        tags = {key: value for key, value in self.tags(cloud, identity).items() if key != EDGE_TAG}
        mappings = inputs.get("subnetMappings") or [{"subnetId": subnet} for subnet in sorted(subnets)]
        return {
            "arn": identity,
            "arnSuffix": identity.partition(":loadbalancer/")[2],
            "dnsName": found["DNSName"],
            "internal": found["Scheme"] == "internal",
            "ipAddressType": inputs.get("ipAddressType") or found.get("IpAddressType") or "ipv4",
            "name": found["LoadBalancerName"],
            "subnetMappings": [{"outpostId": "", **mapping} for mapping in mappings],
            "subnets": inputs.get("subnets") or [mapping["subnetId"] for mapping in mappings],
            "tagsAll": tags,
            "vpcId": found.get("VpcId") or "",
            "zoneId": found.get("CanonicalHostedZoneId") or _CANONICAL_ZONE,
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        attributes = {
            "enableDeletionProtection": "deletion_protection.enabled",
            "enableCrossZoneLoadBalancing": "load_balancing.cross_zone.enabled",
        }
        wire = [
            {"Key": key, "Value": str(bool(new[name])).lower()}
            for name, key in attributes.items()
            if new.get(name) is not None and old.get(name) != new[name]
        ]
        client = cloud.client("elbv2")
        if wire:
            client.modify_load_balancer_attributes(LoadBalancerArn=identity, Attributes=wire)
        if old and any(old.get(name) != new.get(name) for name in ("subnets", "subnetMappings")):
            if new.get("subnets"):
                client.set_subnets(LoadBalancerArn=identity, Subnets=new["subnets"])
            else:
                mappings = [_mapping(item) for item in new["subnetMappings"]]
                client.set_subnets(LoadBalancerArn=identity, SubnetMappings=mappings)

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        super().tag(cloud, identity, {**tags, EDGE_TAG: self._edge(cloud, tags)}, removed)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is None:
            return
        if state.get("enableDeletionProtection"):
            raise ProviderError(f"{identity} is protected from deletion; set enableDeletionProtection to false first")
        cloud.client("elbv2").delete_load_balancer(LoadBalancerArn=identity)

    def _edge(self, cloud: Cloud, tags: dict[str, str]) -> str:
        return cloud.topology.sites[tags[SITE_TAG]].edge_address


def name_rules(inputs: dict[str, Any]) -> Iterator[Failure]:
    """How load balancers and target groups may be called."""
    rule = "names have 1 to 32 letters, digits and hyphens, with no hyphen at either end"
    yield from matches(inputs, "name", r"(?!internal-)[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?", rule)


def refuse_taken(client: Any, method: str, what: str, name: str) -> None:
    """Raise ProviderError when the name belongs to another resource already."""
    try:
        found = getattr(client, method)(Names=[name])
    except ClientError as error:
        if code_of(error) in _GONE:
            return
        raise
    if any(items for key, items in found.items() if isinstance(items, list) and known(items)):
        raise ProviderError(f"{what} {name!r} exists already and belongs to another resource: choose another name")


def _mapping(item: dict[str, Any]) -> dict[str, Any]:
    names = {"subnetId": "SubnetId", "allocationId": "AllocationId", "privateIpv4Address": "PrivateIPv4Address"}
    return {wire: item[name] for name, wire in names.items() if item.get(name)}


TYPES: Final = (LoadBalancer,)
