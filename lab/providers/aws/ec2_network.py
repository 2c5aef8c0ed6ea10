"""EC2: networks and subnets."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lab.providers.aws.cloud import Cloud, from_tag_list
from lab.providers.aws.ec2 import Ec2Type
from lab.providers.aws.rules import cidr_rules, known, one_of
from lab.providers.errors import Failure


class Vpc(Ec2Type):
    """A network."""

    type_name = "aws:ec2/vpc:Vpc"
    describe = ("describe_vpcs", "VpcIds", "Vpcs")
    defaults: ClassVar = {"enableDnsSupport": True, "instanceTenancy": "default"}
    replace_on = ("cidrBlock", "ipv4IpamPoolId", "ipv4NetmaskLength", "region")
    in_place = ("enableDnsSupport", "enableDnsHostnames")
    lasting = ("enableDnsHostnames",)
    blank: ClassVar = {
        "ipv6AssociationId": "",
        "ipv6CidrBlock": "",
        "ipv6CidrBlockNetworkBorderGroup": "",
        "enableNetworkAddressUsageMetrics": False,
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from cidr_rules(inputs, "cidrBlock", 16, 28)
        yield from one_of(inputs, "instanceTenancy", "default", "dedicated")
        if inputs.get("cidrBlock") is None and inputs.get("ipv4IpamPoolId") is None:
            yield Failure("cidrBlock", "cidrBlock is missing; a network needs addresses: give one like 10.0.0.0/16")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        answer = cloud.client("ec2").create_vpc(
            CidrBlock=inputs["cidrBlock"], InstanceTenancy=inputs["instanceTenancy"]
        )
        identity: str = answer["Vpc"]["VpcId"]
        self.tag(cloud, identity, tags, [])
        self.update(cloud, identity, {}, inputs)
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        if found is None:
            return None
        ec2 = cloud.client("ec2")
        here = [{"Name": "vpc-id", "Values": [identity]}]
        tables = ec2.describe_route_tables(Filters=[*here, {"Name": "association.main", "Values": ["true"]}])
        groups = ec2.describe_security_groups(Filters=[*here, {"Name": "group-name", "Values": ["default"]}])
        lists = ec2.describe_network_acls(Filters=[*here, {"Name": "default", "Values": ["true"]}])
        names = ec2.describe_vpc_attribute(VpcId=identity, Attribute="enableDnsHostnames")
        support = ec2.describe_vpc_attribute(VpcId=identity, Attribute="enableDnsSupport")
        table = next((item["RouteTableId"] for item in tables["RouteTables"]), "")
        return {
            "arn": cloud.arn("ec2", f"vpc/{identity}"),
            "cidrBlock": found["CidrBlock"],
            "defaultNetworkAclId": next((item["NetworkAclId"] for item in lists["NetworkAcls"]), ""),
            "defaultRouteTableId": table,
            "defaultSecurityGroupId": next((item["GroupId"] for item in groups["SecurityGroups"]), ""),
            "dhcpOptionsId": found.get("DhcpOptionsId") or "",
            "enableDnsHostnames": bool(names["EnableDnsHostnames"]["Value"]),
            "enableDnsSupport": bool(support["EnableDnsSupport"]["Value"]),
            "mainRouteTableId": table,
            "ownerId": found.get("OwnerId") or cloud.account,
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        for name, attribute in (("enableDnsSupport", "EnableDnsSupport"), ("enableDnsHostnames", "EnableDnsHostnames")):
            if new.get(name) is not None and old.get(name) != new[name]:
                cloud.client("ec2").modify_vpc_attribute(VpcId=identity, **{attribute: {"Value": new[name]}})

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("ec2").delete_vpc(VpcId=identity)


class Subnet(Ec2Type):
    """A part of a network in one zone."""

    type_name = "aws:ec2/subnet:Subnet"
    describe = ("describe_subnets", "SubnetIds", "Subnets")
    defaults: ClassVar = {"mapPublicIpOnLaunch": False, "assignIpv6AddressOnCreation": False}
    replace_on = ("vpcId", "cidrBlock", "availabilityZone", "availabilityZoneId", "outpostArn", "ipv6Native", "region")
    in_place = ("mapPublicIpOnLaunch",)
    delete_first = True  # the new one would overlap the old one's addresses
    blank: ClassVar = {
        "ipv6CidrBlock": "",
        "ipv6CidrBlockAssociationId": "",
        "privateDnsHostnameTypeOnLaunch": "ip-name",
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from cidr_rules(inputs, "cidrBlock", 16, 28)
        zone = inputs.get("availabilityZone")
        if known(zone) and not str(zone).startswith(cloud.region):
            yield Failure(
                "availabilityZone", f"availabilityZone is {zone!r}; it has to lie in {cloud.region}: correct it"
            )

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        arguments = {"VpcId": inputs["vpcId"], "CidrBlock": inputs["cidrBlock"]}
        for name, wire in (("availabilityZone", "AvailabilityZone"), ("availabilityZoneId", "AvailabilityZoneId")):
            if inputs.get(name):
                arguments[wire] = inputs[name]
        identity: str = cloud.client("ec2").create_subnet(**arguments)["Subnet"]["SubnetId"]
        self.tag(cloud, identity, tags, [])
        self.update(cloud, identity, {"mapPublicIpOnLaunch": False}, inputs)
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        return found and {
            "arn": cloud.arn("ec2", f"subnet/{identity}"),
            "vpcId": found["VpcId"],
            "cidrBlock": found["CidrBlock"],
            "availabilityZone": found["AvailabilityZone"],
            "availabilityZoneId": found.get("AvailabilityZoneId") or "",
            "mapPublicIpOnLaunch": bool(found.get("MapPublicIpOnLaunch")),
            "ownerId": found.get("OwnerId") or cloud.account,
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        wanted = bool(new.get("mapPublicIpOnLaunch"))
        if bool(old.get("mapPublicIpOnLaunch")) != wanted:
            cloud.client("ec2").modify_subnet_attribute(SubnetId=identity, MapPublicIpOnLaunch={"Value": wanted})

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("ec2").delete_subnet(SubnetId=identity)


TYPES: Final = (Vpc, Subnet)
