"""What the lab's clouds hold, asked of their APIs and of nobody's records: a count per kind of thing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.config
import httpx

Item = Mapping[str, Any]

REGION: Final = "us-east-1"
REGIONS: Final = (REGION, "eu-central-1", "eu-west-1")
"""Where the lab's settings declare anything."""
TIMEOUT_SECONDS: Final = 20.0
_CONFIG: Final = botocore.config.Config(
    connect_timeout=5, read_timeout=TIMEOUT_SECONDS, retries={"total_max_attempts": 1}
)
PASSING: Final = frozenset({"pods", "replicasets", "events", "endpoints", "endpointslices", "leases", "nodes"})
"""Kinds a controller makes and unmakes by itself."""
BUILT_IN: Final = ("default", "kube-", "system:")
"""Names of what a cluster holds by itself."""


def _not_default(item: Item) -> bool:
    return not item.get("IsDefault") and item.get("GroupName") != "default"


def _not_main(item: Item) -> bool:
    return not any(each.get("Main") for each in item.get("Associations", ()))


def _own_subnet(item: Item) -> bool:
    return not item.get("DefaultForAz")


def _alive(item: Item) -> bool:
    return item.get("State") not in {"deleted", "deleting", "cancelled"}


def _ours(item: Item) -> bool:
    return not str(item.get("AliasName", "")).startswith("alias/aws/")


def _customer(item: Item) -> bool:
    return not str(item.get("Path", "/")).startswith("/aws-service-role/")


def _any(_: Item) -> bool:
    return True


@dataclass(frozen=True)
class Listing:
    """One question that lists one kind of thing, and which of the answers were declared by somebody."""

    service: str
    operation: str
    field: str
    counts: Callable[[Item], bool] = _any
    arguments: tuple[tuple[str, Any], ...] = ()
    everywhere: bool = True
    """Whether each region has its own."""


LISTINGS: Final = (
    Listing("ec2", "describe_vpcs", "Vpcs", _not_default),
    Listing("ec2", "describe_subnets", "Subnets", _own_subnet),
    Listing("ec2", "describe_internet_gateways", "InternetGateways"),
    Listing("ec2", "describe_nat_gateways", "NatGateways", _alive),
    Listing("ec2", "describe_addresses", "Addresses"),
    Listing("ec2", "describe_route_tables", "RouteTables", _not_main),
    Listing("ec2", "describe_security_groups", "SecurityGroups", _not_default),
    Listing("ec2", "describe_launch_templates", "LaunchTemplates"),
    Listing("ec2", "describe_vpc_endpoints", "VpcEndpoints", _alive),
    Listing("ec2", "describe_flow_logs", "FlowLogs"),
    Listing("elbv2", "describe_load_balancers", "LoadBalancers"),
    Listing("elbv2", "describe_target_groups", "TargetGroups"),
    Listing("eks", "list_clusters", "clusters"),
    Listing("iam", "list_roles", "Roles", _customer, everywhere=False),
    Listing("iam", "list_policies", "Policies", arguments=(("Scope", "Local"),), everywhere=False),
    Listing("kms", "list_aliases", "Aliases", _ours),
    Listing("route53", "list_hosted_zones", "HostedZones", everywhere=False),
    Listing("route53", "list_health_checks", "HealthChecks", everywhere=False),
    Listing("logs", "describe_log_groups", "logGroups"),
    Listing("sns", "list_topics", "Topics"),
    Listing("cloudwatch", "describe_alarms", "MetricAlarms"),
    Listing("acm", "list_certificates", "CertificateSummaryList"),
)


def held(home: Path) -> Counter[str]:
    """How many of each kind all APIs of the lab hold together. Raises what httpx and botocore raise."""
    lab = json.loads((home / "lab" / "lab.json").read_text(encoding="utf-8"))
    topology = lab["topology"]
    found = _aws(topology["aws_url"], LISTINGS)
    for name, site in topology["sites"].items():
        store = _client("s3", f"http://{site['block']}.0.2:9000", REGION)
        found[f"store of {name}: buckets"] = len(store.list_buckets()["Buckets"])
        found.update(_cluster(name, f"http://{site['block']}.0.1:6443"))
    return +found


def different(expected: Counter[str], seen: Counter[str]) -> list[str]:
    """Each kind of which there are more or fewer than expected."""
    return [
        f"{kind}: {seen[kind]}, expected {expected[kind]}"
        for kind in sorted({*expected, *seen})
        if seen[kind] != expected[kind]
    ]


def _aws(url: str, listings: Iterable[Listing]) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in listings:
        for region in REGIONS if each.everywhere else (REGION,):
            answer = getattr(_client(each.service, url, region), each.operation)(**dict(each.arguments))
            found[f"{each.service} {each.field}"] += sum(1 for item in answer[each.field] if _counted(each, item))
    route53 = _client("route53", url, REGION)
    for zone in route53.list_hosted_zones()["HostedZones"]:
        records = route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
        found["route53 records"] += len(records)
    for region in REGIONS:
        eks = _client("eks", url, region)
        for cluster in eks.list_clusters()["clusters"]:
            found["eks nodegroups"] += len(eks.list_nodegroups(clusterName=cluster)["nodegroups"])
    return found


def _counted(listing: Listing, item: Any) -> bool:
    return not isinstance(item, Mapping) or listing.counts(item)


def _client(service: str, url: str, region: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]  # the stubs want a literal
        endpoint_url=url,
        region_name=region,
        aws_access_key_id="lab",
        aws_secret_access_key="lab",  # noqa: S106  # the lab asks nobody who they are
        config=_CONFIG,
    )


def _cluster(site: str, url: str) -> Counter[str]:
    """Every kind the API lists, without what controllers make and what a cluster has by itself."""
    found: Counter[str] = Counter()
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        groups = http.get("/apis").raise_for_status().json()["groups"]
        versions = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
        for path in versions:
            for kind in http.get(path).raise_for_status().json()["resources"]:
                if "/" in kind["name"] or "list" not in kind["verbs"] or kind["name"] in PASSING:
                    continue
                items = http.get(f"{path}/{kind['name']}").raise_for_status().json().get("items") or []
                count = sum(1 for item in items if not _built_in(item))
                found[f"{site}: {kind['name']}"] += count
    return found


def _built_in(item: Item) -> bool:
    metadata = item["metadata"]
    return str(metadata["name"]).startswith(BUILT_IN) or bool(metadata.get("ownerReferences"))
