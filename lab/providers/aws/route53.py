"""Route 53: zones and health checks."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.aws.route53_rules import CHECK_TYPES, ENDPOINT_TYPES, HOST_NAME
from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of, from_tag_list, to_tag_list
from lab.providers.aws.resource import AwsType
from lab.providers.aws.route53_alarm import NAMES as ALARM_NAMES
from lab.providers.aws.route53_alarm import alarm_live, alarm_rules, alarm_wire
from lab.providers.aws.rules import between, known, matches, one_of
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming
from lab.providers.values import UNKNOWN

HOSTED_ZONE_GONE: Final = {"NoSuchHostedZone"}
HEALTH_CHECK_GONE: Final = {"NoSuchHealthCheck"}
_WIRE: Final = {
    "ipAddress": "IPAddress",
    "port": "Port",
    "type": "Type",
    "resourcePath": "ResourcePath",
    "fqdn": "FullyQualifiedDomainName",
    "searchString": "SearchString",
    "requestInterval": "RequestInterval",
    "failureThreshold": "FailureThreshold",
    "measureLatency": "MeasureLatency",
    "invertHealthcheck": "Inverted",
    "disabled": "Disabled",
    "childHealthThreshold": "HealthThreshold",
    "childHealthchecks": "ChildHealthChecks",
    "enableSni": "EnableSNI",
    "regions": "Regions",
}
"""Properties of a health check -> their names in the API."""
_FIXED_AFTER_CREATE: Final = ("type", "requestInterval", "measureLatency")
_CHANGEABLE: Final = tuple(name for name in _WIRE if name not in _FIXED_AFTER_CREATE)
_RESETTABLE: Final = ("resourcePath", "fqdn", "regions", "childHealthchecks")
_ELSEWHERE: Final = ("routingControlArn",)
"""Properties of the types of health check that the lab's prober does not run."""


class Zone(AwsType):
    """A public hosted zone."""

    type_name = "aws:route53/zone:Zone"
    naming = Naming(longest=1024)
    defaults: ClassVar = {"comment": "Managed by Pulumi", "forceDestroy": False}
    replace_on = ("name", "delegationSetId")
    blank: ClassVar = {"enableAcceleratedRecovery": False}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(
            inputs, "name", r"(?=.{1,255}$)([\w*-]{1,63}\.)*[\w-]{1,63}\.?", "zones are named like a domain"
        )
        if inputs.get("vpcs"):
            yield Failure(
                "vpcs", "vpcs make the zone private; the lab's resolver serves public zones only: remove them"
            )

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        answer = cloud.client("route53").create_hosted_zone(
            Name=inputs["name"],
            CallerReference=str(uuid.uuid4()),
            HostedZoneConfig={"Comment": inputs.get("comment") or "", "PrivateZone": False},
        )
        identity: str = answer["HostedZone"]["Id"].rpartition("/")[2]
        self.tag(cloud, identity, tags, [])
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        client = cloud.client("route53")
        try:
            answer = client.get_hosted_zone(Id=identity)
        except ClientError as error:
            if code_of(error) in HOSTED_ZONE_GONE:
                return None
            raise
        servers = sorted(answer.get("DelegationSet", {}).get("NameServers", []))
        return {
            "arn": f"arn:aws:route53:::hostedzone/{identity}",
            "name": answer["HostedZone"]["Name"].rstrip("."),
            "comment": answer["HostedZone"].get("Config", {}).get("Comment", ""),
            "nameServers": servers,
            "primaryNameServer": servers[0] if servers else "",
            "zoneId": identity,
            "tagsAll": _tags(cloud, "hostedzone", identity),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        cloud.client("route53").update_hosted_zone_comment(Id=identity, Comment=new.get("comment") or "")

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        _tag(cloud, "hostedzone", identity, tags, removed)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        client = cloud.client("route53")
        if self.read(cloud, identity, state) is None:
            return
        pages = client.get_paginator("list_resource_record_sets").paginate(HostedZoneId=identity)
        own = [record for page in pages for record in page["ResourceRecordSets"] if record["Type"] not in {"NS", "SOA"}]
        if own and not state.get("forceDestroy"):
            raise ProviderError(
                f"zone {state.get('name')} still holds {own[0]['Name']} {own[0]['Type']};"
                " a zone has to be empty to be deleted: remove its records or set forceDestroy"
            )
        for record in own:
            changes = [{"Action": "DELETE", "ResourceRecordSet": record}]
            client.change_resource_record_sets(HostedZoneId=identity, ChangeBatch={"Changes": changes})
        client.delete_hosted_zone(Id=identity)

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for page in cloud.client("route53").get_paginator("list_hosted_zones").paginate():
            for zone in page["HostedZones"]:
                identity = zone["Id"].rpartition("/")[2]
                yield identity, _tags(cloud, "hostedzone", identity).get(MARKER_TAG)

    def canonical(self, inputs: dict[str, Any]) -> dict[str, Any]:
        name = inputs.get("name")
        return super().canonical({**inputs, "name": name.rstrip(".").lower() if isinstance(name, str) else name})


class HealthCheck(AwsType):
    """A health check; the lab's prober runs it."""

    type_name = "aws:route53/healthCheck:HealthCheck"
    defaults: ClassVar = {"disabled": False, "invertHealthcheck": False, "measureLatency": False}
    replace_on = (*_FIXED_AFTER_CREATE, "referenceName")
    in_place = (*_CHANGEABLE, *ALARM_NAMES, "triggers")
    lasting = ("ipAddress", "searchString", *ALARM_NAMES)
    unordered = frozenset({"regions", "childHealthchecks"})
    blank: ClassVar = {"regions": [], "triggers": {}, "enableSni": False}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "type", *CHECK_TYPES)
        for name in _ELSEWHERE:
            if inputs.get(name) is not None:
                yield Failure(name, f"{name} is set; the lab's prober runs {', '.join(CHECK_TYPES)} only: remove it")
        yield from one_of(inputs, "requestInterval", 10, 30)
        yield from between(inputs, "failureThreshold", 1, 10)
        yield from between(inputs, "port", 1, 65535)
        yield from between(inputs, "childHealthThreshold", 0, 256)
        yield from matches(inputs, "fqdn", HOST_NAME, "host names are letters, digits, - and _ between single dots")
        yield from matches(inputs, "resourcePath", r"/.{0,254}", "paths begin with / and have at most 255 characters")
        yield from alarm_rules(inputs)
        yield from _endpoint_rules(inputs)
        yield from _search_rules(inputs)
        yield from _children_exist(cloud, inputs)

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        config = {wire: inputs[name] for name, wire in _WIRE.items() if inputs.get(name) is not None}
        if inputs["type"] in ENDPOINT_TYPES:
            config.setdefault("FailureThreshold", 3)
        config |= alarm_wire(inputs)
        reference = f"{inputs.get('referenceName') or 'lab'}-{uuid.uuid4()}"[:64]
        answer = cloud.client("route53").create_health_check(CallerReference=reference, HealthCheckConfig=config)
        identity: str = answer["HealthCheck"]["Id"]
        self.tag(cloud, identity, tags, [])
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        config = health_check(cloud, identity)
        if config is None:
            return None
        live = {name: config[wire] for name, wire in _WIRE.items() if config.get(wire) not in (None, [], "")}
        if config["Type"] not in ENDPOINT_TYPES:
            live["failureThreshold"] = live.get("failureThreshold", 0)
        return {
            **live,
            **alarm_live(config),
            "arn": f"arn:aws:route53:::healthcheck/{identity}",
            "tagsAll": _tags(cloud, "healthcheck", identity),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        changed = {_WIRE[name]: new[name] for name in _CHANGEABLE if new.get(name) is not None}
        gone = [name for name in _CHANGEABLE if old.get(name) not in (None, []) and new.get(name) in (None, [])]
        changed |= {_WIRE[name]: value for name, value in _defaults(new["type"]).items() if name in gone}
        reset = [_WIRE[name] for name in _RESETTABLE if name in gone]
        if reset:  # what an update does not name stays
            changed = {wire: value for wire, value in changed.items() if wire not in reset} | {"ResetElements": reset}
        cloud.client("route53").update_health_check(HealthCheckId=identity, **changed, **alarm_wire(new))

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        _tag(cloud, "healthcheck", identity, tags, removed)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        try:
            cloud.client("route53").delete_health_check(HealthCheckId=identity)
        except ClientError as error:
            if code_of(error) not in HEALTH_CHECK_GONE:
                raise

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for page in cloud.client("route53").get_paginator("list_health_checks").paginate():
            for check in page["HealthChecks"]:
                yield check["Id"], _tags(cloud, "healthcheck", check["Id"]).get(MARKER_TAG)


def _defaults(kind: str) -> dict[str, Any]:
    """What a property that the program no longer gives is set to."""
    secure = kind.startswith("HTTPS")
    return {"port": 443 if secure else 80, "failureThreshold": 3, "enableSni": secure, "childHealthThreshold": 0}


def health_check(cloud: Cloud, identity: str) -> dict[str, Any] | None:
    """The configuration of a health check, or None when there is no such check."""
    try:
        found = cloud.client("route53").get_health_check(HealthCheckId=identity)["HealthCheck"]["HealthCheckConfig"]
    except ClientError as error:
        if code_of(error) in HEALTH_CHECK_GONE:
            return None
        raise
    return dict(found)


def _endpoint_rules(inputs: dict[str, Any]) -> Iterator[Failure]:
    kind = inputs.get("type")
    address, fqdn = inputs.get("ipAddress"), inputs.get("fqdn")
    if known(address):
        try:
            ipaddress.ip_address(str(address))
        except ValueError:
            yield Failure("ipAddress", f"ipAddress is {address!r}; it has to be an IP address: use fqdn for a name")
    if kind in ENDPOINT_TYPES and not address and not fqdn:
        yield Failure("ipAddress", f"a {kind} check names no endpoint; it needs ipAddress or fqdn: give one of them")
    if kind == "TCP" and inputs.get("resourcePath"):
        yield Failure("resourcePath", "resourcePath is set on a TCP check; it asks for no path: remove it")
    if kind == "CALCULATED" and not inputs.get("childHealthchecks"):
        yield Failure("childHealthchecks", "a CALCULATED check has no children; it needs one: give childHealthchecks")
    children, needed = inputs.get("childHealthchecks"), inputs.get("childHealthThreshold")
    if isinstance(children, list) and isinstance(needed, int) and needed > len(children):
        yield Failure(
            "childHealthThreshold",
            f"childHealthThreshold is {needed} with {len(children)} children; the check could never be healthy:"
            " ask for no more than there are",
        )
    regions = inputs.get("regions")
    if isinstance(regions, list) and 0 < len(regions) < 3:
        yield Failure("regions", f"regions is {regions}; Route 53 needs at least three: name more or none")


def _search_rules(inputs: dict[str, Any]) -> Iterator[Failure]:
    kind, text = inputs.get("type"), inputs.get("searchString")
    matching = isinstance(kind, str) and kind.endswith("_STR_MATCH")
    if matching and not text:
        yield Failure("searchString", f"a {kind} check has no searchString; it needs one: give the text to look for")
    if text is not UNKNOWN and text and known(kind) and not matching:
        yield Failure("searchString", f"searchString is set on a {kind} check; it is never read: use {kind}_STR_MATCH")
    if isinstance(text, str) and len(text) > 255:
        yield Failure("searchString", f"searchString has {len(text)} characters; at most 255 are allowed: shorten it")


def _children_exist(cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
    children = inputs.get("childHealthchecks")
    for child in children if isinstance(children, list) else []:
        if known(child) and health_check(cloud, child) is None:
            yield Failure("childHealthchecks", f"childHealthchecks names {child!r}; no such health check: declare it")


def _tags(cloud: Cloud, kind: str, identity: str) -> dict[str, str]:
    answer = cloud.client("route53").list_tags_for_resource(ResourceType=kind, ResourceId=identity)
    return from_tag_list(answer["ResourceTagSet"].get("Tags"))


def _tag(cloud: Cloud, kind: str, identity: str, tags: dict[str, str], removed: list[str]) -> None:
    arguments: dict[str, Any] = {"ResourceType": kind, "ResourceId": identity}
    if tags:
        arguments["AddTags"] = to_tag_list(tags)
    if removed:
        arguments["RemoveTagKeys"] = removed
    if tags or removed:
        cloud.client("route53").change_tags_for_resource(**arguments)


TYPES: Final = (Zone, HealthCheck)
