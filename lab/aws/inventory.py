"""What the AWS API declares, read for the data plane: zones, health checks, load balancers' addresses."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.config

from lab.aws.check import ALARM, Check
from lab.aws.route53_rules import plain_name
from lab.aws.zone import Record, Zone

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

EDGE_TAG: Final = "tandem.io/edge-address"
REGION: Final = "us-east-1"
"""Route 53 has one API for all regions; its requests are signed for this one."""
_LOAD_BALANCER: Final = re.compile(r"(?:dualstack\.)?(?P<name>.+)\.(?P<region>[a-z0-9-]+)\.elb\.amazonaws\.com")
_CONFIG: Final = botocore.config.Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything the data plane needs, as one consistent reading."""

    zones: tuple[Zone, ...] = ()
    checks: dict[str, Check] | None = None
    load_balancers: dict[str, tuple[str, ...]] | None = None


class Inventory:
    """A reader of the AWS API; its methods block."""

    def __init__(self, aws_url: str) -> None:
        self._url = aws_url
        self._session = boto3.session.Session(
            aws_access_key_id="lab",
            aws_secret_access_key="lab",  # noqa: S106  # moto takes any
            region_name=REGION,
        )
        self._route53 = self._session.client("route53", endpoint_url=aws_url, config=_CONFIG)
        self._elb: dict[str, ElasticLoadBalancingv2Client] = {}
        self._alarms: dict[str, Any] = {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def version(self) -> str:
        """A value that changes with every write; raises OSError when the API is away."""
        with self._opener.open(f"{self._url}/tandem/version", timeout=2) as answer:
            body: bytes = answer.read()
        return body.decode()

    def read(self) -> Snapshot:
        """All of it; raises what boto3 raises when the API is away."""
        zones = tuple(
            Zone(plain_name(zone["Name"]), tuple(self._records(zone["Id"])))
            for page in self._route53.get_paginator("list_hosted_zones").paginate()
            for zone in page["HostedZones"]
            if not zone.get("Config", {}).get("PrivateZone")
        )
        checks = {
            check["Id"]: Check.from_aws(check)
            for page in self._route53.get_paginator("list_health_checks").paginate()
            for check in page["HealthChecks"]
        }
        targets = {record.alias.target for zone in zones for record in zone.records if record.alias}
        return Snapshot(zones=zones, checks=checks, load_balancers=self._load_balancers(targets))

    def alarms(self, checks: Mapping[str, Check]) -> dict[str, str]:
        """The state of the alarm each check goes by, by the check's id; that of an alarm that is gone is empty."""
        wanted: dict[str, set[str]] = {}
        for check in checks.values():
            if check.type == ALARM:
                wanted.setdefault(check.alarm_region, set()).add(check.alarm_name)
        states = {
            (region, alarm["AlarmName"]): str(alarm["StateValue"])
            for region, names in wanted.items()
            for alarm in self._cloudwatch(region).describe_alarms(AlarmNames=sorted(names))["MetricAlarms"]
        }
        return {
            check_id: states.get((check.alarm_region, check.alarm_name), "")
            for check_id, check in checks.items()
            if check.type == ALARM
        }

    def close(self) -> None:
        """Close its connections."""
        self._route53.close()
        for client in (*self._elb.values(), *self._alarms.values()):
            client.close()

    def _cloudwatch(self, region: str) -> Any:
        if region not in self._alarms:
            connect: Any = self._session.client  # the stubs know literal service names only
            self._alarms[region] = connect("cloudwatch", endpoint_url=self._url, region_name=region, config=_CONFIG)
        return self._alarms[region]

    def _records(self, zone_id: str) -> list[Record]:
        pages = self._route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone_id)
        return [Record.from_aws(record) for page in pages for record in page["ResourceRecordSets"]]

    def _load_balancers(self, targets: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Addresses of the load balancers that aliases point at, region by region."""
        wanted: dict[str, dict[str, str]] = {}
        for target in sorted(targets):
            match = _LOAD_BALANCER.fullmatch(target)
            if match:
                plain = target.removeprefix("dualstack.")
                wanted.setdefault(match["region"], {})[plain] = target
        found: dict[str, tuple[str, ...]] = {}
        for region, names in wanted.items():
            client = self._client(region)
            arns = {
                balancer["LoadBalancerArn"]: names[balancer["DNSName"].lower()]
                for page in client.get_paginator("describe_load_balancers").paginate()
                for balancer in page["LoadBalancers"]
                if balancer["DNSName"].lower() in names
            }
            if not arns:
                continue
            for description in client.describe_tags(ResourceArns=list(arns))["TagDescriptions"]:
                addresses = tuple(tag["Value"] for tag in description.get("Tags", ()) if tag["Key"] == EDGE_TAG)
                found[arns[description["ResourceArn"]]] = addresses
        return found

    def _client(self, region: str) -> ElasticLoadBalancingv2Client:
        if region not in self._elb:
            self._elb[region] = self._session.client(
                "elbv2", endpoint_url=self._url, region_name=region, config=_CONFIG
            )
        return self._elb[region]
