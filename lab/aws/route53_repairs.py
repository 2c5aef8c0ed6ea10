"""What moto's Route 53 would store differently from Route 53, put right around the call that stores it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree as ET

from moto.route53.models import FakeZone, HealthCheck

from lab.aws.route53_rules import Change, RecordKey, parse, plain_name

DEFAULT_HTTPS_PORT = 443


def key(record: Any) -> RecordKey:
    """What names one of moto's records within its zone."""
    return plain_name(record.name), str(record.type), record.set_identifier or ""


def repair_zone(zone: FakeZone) -> None:
    """A new zone's SOA record comes as the text of a dictionary; make it the value."""
    for record in zone.rrsets:
        record.records = [value["Value"] if isinstance(value, dict) else value for value in record.records]


def repair_deletion(zone: FakeZone, before: Iterable[Any], batch: Iterable[Change]) -> None:
    """Deleting a record takes every record with its set identifier along, whatever its name; put the others back."""
    kept = {key(record) for record in zone.rrsets}
    deleted = {change.key for change in batch if change.action == "DELETE"}
    zone.rrsets.extend(record for record in before if key(record) not in kept | deleted)


def complete_new_check(body: bytes) -> bytes:
    """The request with the defaults of HTTPS checks that moto does not know: port 443, server name indication."""
    root = parse(body)
    config = root.find("HealthCheckConfig")
    if config is None or not (config.findtext("Type") or "").startswith("HTTPS"):
        return body
    for tag, default in (("Port", DEFAULT_HTTPS_PORT), ("EnableSNI", "true")):
        if config.find(tag) is None:
            ET.SubElement(config, tag).text = str(default)
    return ET.tostring(root)


def complete_updated_check(body: bytes, check: HealthCheck) -> bytes:
    """The request with the lists it does not name: an update leaves them alone, moto empties them.

    What ResetElements names is emptied, which moto does not do for texts.
    """
    root = parse(body)
    reset = {element.text for element in root.iterfind("ResetElements/ResettableElementName")}
    if "ResourcePath" in reset:
        check.resource_path = None
    if "FullyQualifiedDomainName" in reset:
        check.fqdn = None
    for outer, inner, values in (
        ("ChildHealthChecks", "ChildHealthCheck", check.children),
        ("Regions", "Region", check.regions),
    ):
        if values and root.find(outer) is None and outer not in reset:
            element = ET.SubElement(root, outer)
            for value in values:
                ET.SubElement(element, inner).text = value
    return ET.tostring(root)
