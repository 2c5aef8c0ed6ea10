"""Route 53: records and their routing policies."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.aws.route53_rules import RECORD_TYPES, is_address, is_load_balancer
from lab.providers.aws.cloud import Cloud, code_of
from lab.providers.aws.resource import AwsType
from lab.providers.aws.route53 import HOSTED_ZONE_GONE, health_check
from lab.providers.aws.rules import at_least, between, known, one_of
from lab.providers.errors import Failure, ProviderError

_POLICIES: Final = (
    "weightedRoutingPolicies",
    "failoverRoutingPolicies",
    "geolocationRoutingPolicies",
    "geoproximityRoutingPolicy",
    "latencyRoutingPolicies",
    "cidrRoutingPolicy",
    "multivalueAnswerRoutingPolicy",
)


class Record(AwsType):
    """One record set; its id is `<zone>_<name>_<type>[_<set identifier>]` as it was made with, for life.

    Another type or set identifier is another record for Route 53 and the same resource for the provider: one
    transaction deletes the one and creates the other, and nobody is without an answer in between. Source:
    https://github.com/hashicorp/terraform-provider-aws/blob/main/internal/service/route53/record.go.
    """

    type_name = "aws:route53/record:Record"
    replace_on = ("zoneId", "name")
    in_place = (
        "ttl",
        "records",
        "aliases",
        "weightedRoutingPolicies",
        "healthCheckId",
        "allowOverwrite",
        "type",
        "setIdentifier",
    )
    unordered = frozenset({"records"})
    blank: ClassVar = {"allowOverwrite": False}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "type", *RECORD_TYPES)
        yield from at_least(inputs, "ttl", 0)
        yield from between(inputs, "ttl", 0, 2147483647) if known(inputs.get("ttl")) and inputs["ttl"] > 0 else ()
        yield from _value_rules(inputs)
        yield from _policy_rules(inputs)
        identity = inputs.get("healthCheckId")
        if known(identity) and health_check(cloud, str(identity)) is None:
            yield Failure(
                "healthCheckId",
                f"healthCheckId is {identity!r}; no such health check exists, so the record would never leave"
                " the answers: name one that does",
            )

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        record = _record_set(cloud, inputs)
        identity = _identity(inputs)
        present = self._find(cloud, identity, inputs)
        if present is not None and not inputs.get("allowOverwrite") and not _same(present, record):
            raise ProviderError(
                f"record {inputs['name']} {inputs['type']} exists already with other values;"
                " a record has one owner: remove it there or set allowOverwrite"
            )
        _change(cloud, inputs["zoneId"], ("UPSERT", record))
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self._find(cloud, identity, inputs)
        if found is None:
            return None
        live: dict[str, Any] = {
            "zoneId": identity.partition("_")[0],
            "name": inputs.get("name") or found["Name"].rstrip("."),
            "fqdn": found["Name"].rstrip("."),
            "type": found["Type"],
        }
        if "TTL" in found:
            live["ttl"] = found["TTL"]
        if found.get("ResourceRecords"):
            live["records"] = inputs.get("records") or [item["Value"] for item in found["ResourceRecords"]]
        if "HealthCheckId" in found:
            live["healthCheckId"] = found["HealthCheckId"]
        if "Weight" in found:
            live["weightedRoutingPolicies"] = [{"weight": found["Weight"]}]
        if "SetIdentifier" in found:
            live["setIdentifier"] = found["SetIdentifier"]
        return live

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        record = _record_set(cloud, new)
        before = self._find(cloud, identity, old) if _identity(old) != _identity(new) else None
        if before is None:
            # Also where an `up` died after the transaction: what is wanted is there already.
            _change(cloud, new["zoneId"], ("UPSERT", record))
        else:
            made = ("UPSERT" if new.get("allowOverwrite") else "CREATE", record)
            _change(cloud, new["zoneId"], ("DELETE", before), made)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        found = self._find(cloud, identity, state)
        if found is not None:
            _change(cloud, identity.partition("_")[0], ("DELETE", found))

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        return _from_identity(identity)

    def canonical(self, inputs: dict[str, Any]) -> dict[str, Any]:
        name = inputs.get("name")
        return super().canonical({**inputs, "name": name.rstrip(".").lower() if isinstance(name, str) else name})

    def _find(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """The record these inputs name; the id may name what it was before."""
        zone = identity.partition("_")[0]
        pages = cloud.client("route53").get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone)
        try:
            name = _absolute(_full_name(cloud, zone, inputs["name"]))
            wanted = (name, inputs["type"], inputs.get("setIdentifier") or None)
            for page in pages:
                for record in page["ResourceRecordSets"]:
                    if (_absolute(record["Name"]), record["Type"], record.get("SetIdentifier")) == wanted:
                        return dict(record)
        except ClientError as error:
            if code_of(error) not in HOSTED_ZONE_GONE:
                raise
        return None


def _value_rules(inputs: dict[str, Any]) -> Iterator[Failure]:
    records, aliases, kind = inputs.get("records"), inputs.get("aliases"), inputs.get("type")
    if records and aliases:
        yield Failure("aliases", "records and aliases are both set; a record holds one of the two: remove one")
    if not records and not aliases:
        yield Failure("records", "the record has neither records nor aliases; it needs one of the two: give it values")
    if aliases and inputs.get("ttl") is not None:
        yield Failure("ttl", f"ttl is {inputs['ttl']!r} on an alias; an alias has its target's ttl: remove it")
    if records and inputs.get("ttl") is None:
        yield Failure("ttl", "ttl is missing; a record with values needs one: give it in seconds")
    for alias in aliases if isinstance(aliases, list) else []:
        target = alias.get("name") if isinstance(alias, dict) else None
        if isinstance(target, str) and is_load_balancer(target) and alias.get("evaluateTargetHealth") is True:
            yield Failure(
                "aliases[0].evaluateTargetHealth",
                "evaluateTargetHealth is true for a load balancer; the lab cannot evaluate its targets: set it to false"
                " and rest on the record's health check",
            )
    listed = records if isinstance(records, list) else []
    if kind == "CNAME" and len(listed) > 1:
        yield Failure("records", f"records has {len(listed)} values; a CNAME has exactly one: keep one")
    version = {"A": 4, "AAAA": 6}.get(str(kind))
    for value in listed:
        if version and known(value) and not is_address(str(value), version):
            yield Failure(
                "records", f"records holds {value!r}; an {kind} record holds IPv{version} addresses: correct it"
            )


def _policy_rules(inputs: dict[str, Any]) -> Iterator[Failure]:
    used = [name for name in _POLICIES if inputs.get(name)]
    if len(used) > 1:
        yield Failure(used[1], f"{' and '.join(used)} are both set; a record has one routing policy: keep one")
    for name in used:
        if name != "weightedRoutingPolicies":
            yield Failure(name, f"{name} is set; the lab's resolver does not answer by it: use weightedRoutingPolicies")
    if used and not inputs.get("setIdentifier"):
        yield Failure("setIdentifier", f"setIdentifier is missing; {used[0]} needs one: name the record's share")
    if inputs.get("setIdentifier") and not used:
        yield Failure("setIdentifier", "setIdentifier is set without a routing policy; it means nothing: remove it")
    policies = inputs.get("weightedRoutingPolicies")
    if isinstance(policies, list):
        if len(policies) > 1:
            yield Failure("weightedRoutingPolicies", f"there are {len(policies)} weights; a record has one: keep one")
        for policy in policies:
            for failure in between(policy, "weight", 0, 255) if isinstance(policy, dict) else ():
                yield Failure("weightedRoutingPolicies[0].weight", failure.reason)


def _absolute(name: str) -> str:
    return name.rstrip(".").lower().replace("\\052", "*")


def _identity(inputs: dict[str, Any]) -> str:
    parts = [inputs["zoneId"], _absolute(inputs["name"]), inputs["type"], inputs.get("setIdentifier")]
    return "_".join(part for part in parts if part)


def _from_identity(identity: str) -> dict[str, Any]:
    zone, _, rest = identity.partition("_")
    for kind in RECORD_TYPES:
        name, found, after = rest.partition(f"_{kind}")
        if found and (not after or after.startswith("_")):
            return {"zoneId": zone, "name": name, "type": kind, "setIdentifier": after[1:] or None}
    raise ProviderError(f"{identity!r} is no id of a record; those look like ZONE_name_TYPE[_set]: correct it")


def _full_name(cloud: Cloud, zone: str, name: str) -> str:
    """The name below its zone; `www` in zone `example.org` means `www.example.org`."""
    apex = _absolute(cloud.client("route53").get_hosted_zone(Id=zone)["HostedZone"]["Name"])
    below = _absolute(name) == apex or _absolute(name).endswith(f".{apex}")
    return name if below else ".".join(part for part in (name, apex) if part)


def _record_set(cloud: Cloud, inputs: dict[str, Any]) -> dict[str, Any]:
    name = _full_name(cloud, inputs["zoneId"], inputs["name"])
    record: dict[str, Any] = {"Name": name, "Type": inputs["type"]}
    if inputs.get("records"):
        record["TTL"] = inputs["ttl"]
        values = [f'"{value}"' if _needs_quotes(inputs["type"], value) else value for value in inputs["records"]]
        record["ResourceRecords"] = [{"Value": value} for value in values]
    for alias in inputs.get("aliases") or []:
        record["AliasTarget"] = {
            "HostedZoneId": alias["zoneId"],
            "DNSName": alias["name"],
            "EvaluateTargetHealth": alias["evaluateTargetHealth"],
        }
    for policy in inputs.get("weightedRoutingPolicies") or []:
        record["Weight"] = policy["weight"]
    for name, wire in (("setIdentifier", "SetIdentifier"), ("healthCheckId", "HealthCheckId")):
        if inputs.get(name):
            record[wire] = inputs[name]
    return record


def _needs_quotes(kind: str, value: str) -> bool:
    return kind == "TXT" and not value.startswith('"')


def _same(present: dict[str, Any], record: dict[str, Any]) -> bool:
    return all(
        (_absolute(present.get(key, "")) == _absolute(value)) if key == "Name" else present.get(key) == value
        for key, value in record.items()
    )


def _change(cloud: Cloud, zone: str, *wanted: tuple[str, dict[str, Any]]) -> None:
    """All of it in one transaction, or nothing."""
    changes = [{"Action": action, "ResourceRecordSet": record} for action, record in wanted]
    cloud.client("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})


TYPES: Final = (Record,)
