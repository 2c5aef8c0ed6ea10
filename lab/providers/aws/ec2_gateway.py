"""EC2: addresses and gateways."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from lab.providers.aws.cloud import Cloud, from_tag_list
from lab.providers.aws.ec2 import Ec2Type
from lab.providers.aws.rules import SITE_TAG, one_of, site_rules
from lab.providers.errors import Failure


class InternetGateway(Ec2Type):
    """A network's way to the internet."""

    type_name = "aws:ec2/internetGateway:InternetGateway"
    describe = ("describe_internet_gateways", "InternetGatewayIds", "InternetGateways")
    replace_on = ("region",)
    in_place = ("vpcId",)
    blank: ClassVar = {"vpcId": ""}

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        identity: str = cloud.client("ec2").create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.tag(cloud, identity, tags, [])
        self.update(cloud, identity, {}, inputs)
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        return found and {
            "arn": cloud.arn("ec2", f"internet-gateway/{identity}"),
            "ownerId": found.get("OwnerId") or cloud.account,
            "vpcId": next((item["VpcId"] for item in found.get("Attachments", [])), ""),
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        live = self.live(cloud, identity) or {}
        attached = next((item["VpcId"] for item in live.get("Attachments", [])), None)
        wanted = new.get("vpcId")
        client = cloud.client("ec2")
        if attached and attached != wanted:
            client.detach_internet_gateway(InternetGatewayId=identity, VpcId=attached)
        if wanted and attached != wanted:
            client.attach_internet_gateway(InternetGatewayId=identity, VpcId=wanted)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            self.update(cloud, identity, {}, {})
            cloud.client("ec2").delete_internet_gateway(InternetGatewayId=identity)


class Eip(Ec2Type):
    """A public address: of a site's edge, the address that site has in the lab."""

    type_name = "aws:ec2/eip:Eip"
    describe = ("describe_addresses", "AllocationIds", "Addresses")
    replace_on = ("domain", "address", "customerOwnedIpv4Pool", "networkBorderGroup", "publicIpv4Pool", "region")
    blank: ClassVar = {
        "associationId": "",
        "carrierIp": "",
        "customerOwnedIp": "",
        "instance": "",
        "ipamPoolId": "",
        "networkInterface": "",
        "privateDns": "",
        "privateIp": "",
        "ptrRecord": "",
        "publicIpv4Pool": "amazon",
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "domain", "vpc")
        yield from site_rules(cloud, inputs)

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        identity: str = cloud.client("ec2").allocate_address(Domain="vpc")["AllocationId"]
        self.tag(cloud, identity, tags, [])
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        if found is None:
            return None
        tags = from_tag_list(found.get("Tags"))
        site = cloud.topology.sites.get(tags.get(SITE_TAG, ""))
        address = site.edge_address if site else found["PublicIp"]
        return {
            "allocationId": identity,
            "arn": cloud.arn("ec2", f"elastic-ip/{identity}"),
            "associationId": found.get("AssociationId") or "",
            "domain": "vpc",
            "networkBorderGroup": cloud.region,
            "publicIp": address,
            "publicDns": f"ec2-{address.replace('.', '-')}.{cloud.region}.compute.amazonaws.com",
            "tagsAll": tags,
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Only tags change in place."""

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("ec2").release_address(AllocationId=identity)


class NatGateway(Ec2Type):
    """Private subnets' way out."""

    type_name = "aws:ec2/natGateway:NatGateway"
    describe = ("describe_nat_gateways", "NatGatewayIds", "NatGateways")
    defaults: ClassVar = {"connectivityType": "public"}
    replace_on = ("allocationId", "connectivityType", "privateIp", "subnetId", "availabilityMode", "vpcId", "region")
    blank: ClassVar = {
        "associationId": "",
        "autoProvisionZones": "",
        "autoScalingIps": "",
        "availabilityMode": "zonal",
        "regionalNatGatewayAddresses": [],
        "regionalNatGatewayAutoMode": "",
        "routeTableId": "",
        "secondaryAllocationIds": [],
        "secondaryPrivateIpAddressCount": 0,
        "secondaryPrivateIpAddresses": [],
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "connectivityType", "public", "private")
        if inputs.get("subnetId") is None:
            yield Failure("subnetId", "subnetId is missing; a zonal NAT gateway stands in a subnet: give one")
        if inputs.get("connectivityType") == "public" and inputs.get("allocationId") is None:
            yield Failure(
                "allocationId", "allocationId is missing; a public NAT gateway needs an address: give an Eip's id"
            )

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        arguments = {"SubnetId": inputs["subnetId"], "ConnectivityType": inputs["connectivityType"]}
        if inputs.get("allocationId"):
            arguments["AllocationId"] = inputs["allocationId"]
        identity: str = cloud.client("ec2").create_nat_gateway(**arguments)["NatGateway"]["NatGatewayId"]
        self.tag(cloud, identity, tags, [])
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        if found is None:
            return None
        address: Mapping[str, Any] = next(iter(found.get("NatGatewayAddresses", [])), {})
        return {
            "associationId": address.get("AssociationId") or "",
            "connectivityType": found.get("ConnectivityType", "public"),
            "networkInterfaceId": address.get("NetworkInterfaceId") or "",
            "privateIp": address.get("PrivateIp") or "",
            "publicIp": address.get("PublicIp") or "",
            "subnetId": found["SubnetId"],
            "vpcId": found["VpcId"],
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Only tags change in place."""

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("ec2").delete_nat_gateway(NatGatewayId=identity)


TYPES: Final = (InternetGateway, Eip, NatGateway)
