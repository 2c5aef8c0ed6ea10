"""EC2: the way to S3 past NAT gateways and the log of a network's flows; recorded, no packet of the lab passes them."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lab.providers.aws.cloud import Cloud, from_tag_list
from lab.providers.aws.ec2 import Ec2Type
from lab.providers.aws.rules import matches, one_of
from lab.providers.errors import Failure, ProviderError


class VpcEndpoint(Ec2Type):
    """A gateway endpoint of a network."""

    type_name = "aws:ec2/vpcEndpoint:VpcEndpoint"
    describe = ("describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints")
    defaults: ClassVar = {"vpcEndpointType": "Gateway"}
    replace_on = ("serviceName", "vpcEndpointType", "vpcId", "region")
    in_place = ("routeTableIds",)
    unordered = frozenset({"routeTableIds"})
    blank: ClassVar = {
        "cidrBlocks": [],
        "dnsEntries": [],
        "dnsOptions": {},
        "ipAddressType": "",
        "networkInterfaceIds": [],
        "policy": "",
        "prefixListId": "",
        "privateDnsEnabled": False,
        "requesterManaged": False,
        "securityGroupIds": [],
        "subnetConfigurations": [],
        "subnetIds": [],
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "vpcEndpointType", "Gateway")
        wanted = "the lab has gateway endpoints, of S3 and DynamoDB"
        yield from matches(inputs, "serviceName", r"com\.amazonaws\.[a-z0-9-]+\.(s3|dynamodb)", wanted)

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        made = cloud.client("ec2").create_vpc_endpoint(
            VpcId=inputs["vpcId"],
            ServiceName=inputs["serviceName"],
            VpcEndpointType=inputs["vpcEndpointType"],
            RouteTableIds=inputs.get("routeTableIds") or [],
        )
        identity: str = made["VpcEndpoint"]["VpcEndpointId"]
        self.tag(cloud, identity, tags, [])
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        if found is None:
            return None
        return {
            "arn": f"arn:aws:ec2:{cloud.region}:{found.get('OwnerId') or '123456789012'}:vpc-endpoint/{identity}",
            "ownerId": found.get("OwnerId") or "123456789012",
            "routeTableIds": list(found.get("RouteTableIds") or []),
            "serviceName": found["ServiceName"],
            "serviceRegion": cloud.region,
            "state": "available",
            "vpcId": found["VpcId"],
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        before, after = set(old.get("routeTableIds") or []), set(new.get("routeTableIds") or [])
        if before != after:
            cloud.client("ec2").modify_vpc_endpoint(
                VpcEndpointId=identity,
                AddRouteTableIds=sorted(after - before),
                RemoveRouteTableIds=sorted(before - after),
            )

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[identity])


class FlowLog(Ec2Type):
    """Who talked to whom: declared, and nothing is ever written in the lab."""

    type_name = "aws:ec2/flowLog:FlowLog"
    describe = ("describe_flow_logs", "FlowLogIds", "FlowLogs")
    defaults: ClassVar = {"logDestinationType": "cloud-watch-logs", "maxAggregationInterval": 600}
    replace_on = (
        "iamRoleArn",
        "logDestination",
        "logDestinationType",
        "logFormat",
        "maxAggregationInterval",
        "trafficType",
        "vpcId",
        "region",
    )
    blank: ClassVar = {"logFormat": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "trafficType", "ACCEPT", "REJECT", "ALL")
        yield from one_of(inputs, "logDestinationType", "cloud-watch-logs")
        yield from one_of(inputs, "maxAggregationInterval", 60, 600)
        if inputs.get("iamRoleArn") is None:
            yield Failure("iamRoleArn", "iamRoleArn is missing; CloudWatch Logs are written by a role: give its ARN")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        answer = cloud.client("ec2").create_flow_logs(
            ResourceIds=[inputs["vpcId"]],
            ResourceType="VPC",
            TrafficType=inputs["trafficType"],
            LogDestinationType=inputs["logDestinationType"],
            LogGroupName=str(inputs["logDestination"]).rpartition(":log-group:")[2].removesuffix(":*"),
            DeliverLogsPermissionArn=inputs["iamRoleArn"],
            MaxAggregationInterval=inputs["maxAggregationInterval"],
        )
        for failed in answer.get("Unsuccessful") or []:
            raise ProviderError(f"flow log of {inputs['vpcId']}: {failed['Error']['Message']}")
        identity: str = answer["FlowLogIds"][0]
        self.tag(cloud, identity, tags, [])
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        if found is None:
            return None
        return {
            "arn": f"arn:aws:ec2:{cloud.region}:123456789012:vpc-flow-log/{identity}",
            "logDestination": inputs.get("logDestination") or "",
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Only tags change in place."""

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("ec2").delete_flow_logs(FlowLogIds=[identity])


TYPES: Final = (VpcEndpoint, FlowLog)
