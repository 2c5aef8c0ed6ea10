"""Where the load balancers of the AWS API listen for a target group."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lab.kubernetes.forwarder import Address
from lab.topology import SiteAddresses, on_loopback

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

log = logging.getLogger(__name__)

EDGE_ADDRESS_TAG: Final = "tandem.io/edge-address"
"""Tag of a load balancer in the lab: the loopback address that stands for its public ones."""


class TargetGroups:
    """Reads listeners and addresses of network load balancers, by target group."""

    def __init__(self, aws_url: str, addresses: SiteAddresses) -> None:
        self._aws_url = aws_url
        self._addresses = addresses
        self._clients: dict[tuple[str, str], Any] = {}
        self._said = ""

    def listeners(self, arns: Iterable[str]) -> dict[str, list[Address]] | None:
        """Addresses to listen on for each target group; None while the AWS API does not answer."""
        try:
            found = {arn: self._addresses_of(arn) for arn in arns}
        except (BotoCoreError, ClientError) as error:
            self._say(str(error))
            return None
        for arn, addresses in found.items():
            if not addresses:
                self._say(f"target group {arn} has no listener with an address of site {self._addresses.name}")
        return found

    def _addresses_of(self, arn: str) -> list[Address]:
        region = arn.split(":")[3] if arn.count(":") >= 5 else "us-east-1"
        client: ElasticLoadBalancingv2Client = self._client("elbv2", region)
        addresses: list[Address] = []
        for balancer in client.describe_load_balancers()["LoadBalancers"]:
            listeners = client.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
            ports = [
                int(each["Port"])
                for each in listeners
                if any(_forwards(action, arn) for action in each["DefaultActions"])
            ]
            if ports:
                hosts = self._hosts(client, region, balancer)
                addresses += [(host, port) for host in hosts for port in ports]
        return sorted(set(addresses))

    def _hosts(self, client: ElasticLoadBalancingv2Client, region: str, balancer: Any) -> list[str]:
        tags = client.describe_tags(ResourceArns=[balancer["LoadBalancerArn"]])["TagDescriptions"]
        tagged = [tag["Value"] for description in tags for tag in description["Tags"] if tag["Key"] == EDGE_ADDRESS_TAG]
        # nothing but this site's own addresses can be listened on here
        hosts = tagged or self._public_addresses(region, balancer)
        return [host for host in hosts if on_loopback(host) and host.startswith(f"{self._addresses.block}.")]

    def _public_addresses(self, region: str, balancer: Any) -> list[str]:
        zones = balancer.get("AvailabilityZones") or []
        given = [address for zone in zones for address in zone.get("LoadBalancerAddresses") or []]
        hosts = [str(each["IpAddress"]) for each in given if each.get("IpAddress")]
        allocations = [
            str(each["AllocationId"]) for each in given if each.get("AllocationId") and not each.get("IpAddress")
        ]
        if allocations:
            addresses: EC2Client = self._client("ec2", region)
            hosts += [each["PublicIp"] for each in addresses.describe_addresses(AllocationIds=allocations)["Addresses"]]
        return hosts

    def _client(self, service: Any, region: str) -> Any:
        if (service, region) not in self._clients:
            self._clients[service, region] = boto3.client(
                service,
                region_name=region,
                endpoint_url=self._aws_url,
                aws_access_key_id="lab",
                aws_secret_access_key="lab",  # noqa: S106 -- the lab's API asks nobody who they are
                config=Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 1}),
            )
        return self._clients[service, region]

    def _say(self, trouble: str) -> None:
        if trouble != self._said:  # once per trouble, not once per turn
            log.warning("%s", trouble)
            self._said = trouble


def _forwards(action: Any, arn: str) -> bool:
    groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or []
    return arn == action.get("TargetGroupArn") or any(each["TargetGroupArn"] == arn for each in groups)
