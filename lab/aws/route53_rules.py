"""What Route 53 refuses and moto lets pass, and what the lab's DNS could not answer truthfully."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

NAMESPACE: Final = "https://route53.amazonaws.com/doc/2013-04-01/"
WEIGHTS: Final = range(256)
ENDPOINT_TYPES: Final = ("HTTP", "HTTPS", "HTTP_STR_MATCH", "HTTPS_STR_MATCH", "TCP")
CHECK_TYPES: Final = (*ENDPOINT_TYPES, "CALCULATED", "CLOUDWATCH_METRIC")
HOST_NAME: Final = r"(?=.{1,255}$)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?"
"""What the name of an endpoint looks like."""
RECORD_TYPES: Final = ("A", "AAAA", "CNAME", "NS", "SOA", "TXT")
OTHER_POLICIES: Final = (
    "Region",
    "GeoLocation",
    "GeoProximityLocation",
    "Failover",
    "MultiValueAnswer",
    "CidrRoutingConfig",
)

RecordKey = tuple[str, str, str]
"""Name in lower case without its last dot, type, set identifier."""


class MalformedXml(ValueError):  # noqa: N818  # named as Route 53 names the error
    """A body that is no XML document."""


@dataclass(frozen=True)
class Refusal:
    """An answer in Route 53's shape that says no."""

    code: str
    message: str
    status: int = 400

    def body(self) -> bytes:
        """The XML document of the answer."""
        return (
            f'<?xml version="1.0"?>\n<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>Sender</Type>'
            f"<Code>{self.code}</Code><Message>{escape(self.message)}</Message></Error>"
            "<RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"
        ).encode()


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of a batch, as far as the rules ask for it."""

    action: str
    name: str
    type: str
    set_identifier: str
    weight: str | None
    health_check_id: str | None
    values: tuple[str, ...] = ()
    other_policies: tuple[str, ...]
    evaluates_load_balancer: bool

    @property
    def key(self) -> RecordKey:
        """What names the record within its zone."""
        return self.name, self.type, self.set_identifier

    def __str__(self) -> str:
        identifier = f" {self.set_identifier!r}" if self.set_identifier else ""
        return f"{self.name} {self.type}{identifier}"


def plain_name(name: str) -> str:
    """A DNS name in lower case, without its last dot, with Route 53's escape for the wildcard undone."""
    return name.lower().replace("\\052", "*").rstrip(".")


def is_load_balancer(target: str) -> bool:
    """Whether an alias with this target points out of Route 53, at one of AWS's load balancers."""
    return plain_name(target).endswith(".amazonaws.com")


def parse(body: bytes) -> ET.Element:
    """The document with namespaces taken off its tags."""
    try:
        root = ET.fromstring(body)  # noqa: S314  # comes from this machine's own clients
    except ET.ParseError as error:
        raise MalformedXml(str(error)) from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def changes(body: bytes) -> list[Change]:
    """The changes of a ChangeResourceRecordSets request."""
    found = []
    for change in parse(body).iter("Change"):
        record = change.find("ResourceRecordSet")
        if record is None:
            continue
        target = record.findtext("AliasTarget/DNSName") or ""
        found.append(
            Change(
                action=change.findtext("Action") or "",
                name=plain_name(record.findtext("Name") or ""),
                type=record.findtext("Type") or "",
                set_identifier=record.findtext("SetIdentifier") or "",
                weight=record.findtext("Weight"),
                health_check_id=record.findtext("HealthCheckId"),
                values=tuple(value.text or "" for value in record.iterfind("ResourceRecords/ResourceRecord/Value")),
                other_policies=tuple(policy for policy in OTHER_POLICIES if record.find(policy) is not None),
                evaluates_load_balancer=is_load_balancer(target)
                and record.findtext("AliasTarget/EvaluateTargetHealth") == "true",
            )
        )
    return found


def refuse_changes(
    batch: Iterable[Change], existing: Iterable[RecordKey], has_check: Callable[[str], bool], zone: str
) -> Refusal | None:
    """Why Route 53, or the lab's DNS, would refuse this batch on `zone` as a whole; None when it would not."""
    batch, present = list(batch), set(existing)
    for change in batch:
        if change.action == "DELETE":
            if change.key not in present:
                return Refusal(
                    "InvalidChangeBatch", f"Tried to delete resource record set {change} but it was not found"
                )
            present.discard(change.key)
            continue
        refusal = _refuse_record(change, has_check)
        if refusal is not None:
            return refusal
        if change.action == "CREATE" and change.key in present:
            return Refusal("InvalidChangeBatch", f"Tried to create resource record set {change} but it already exists")
        if any(
            (name, kind) == (change.name, change.type) and bool(identifier) != bool(change.set_identifier)
            for name, kind, identifier in present
        ):
            return Refusal(
                "InvalidChangeBatch",
                f"RRSet {change}: a simple record and records with a set identifier cannot share a name and type",
            )
        present.add(change.key)
    return _refuse_canonical_names({change.name for change in batch}, present, plain_name(zone))


def _refuse_canonical_names(names: set[str], present: set[RecordKey], zone: str) -> Refusal | None:
    """A name that stands for another one stands for nothing else, and a zone's own name never does."""
    for name in sorted(names):
        types = {kind for other, kind, _ in present if other == name}
        if "CNAME" not in types:
            continue
        record = f"RRSet of type CNAME with DNS name {name}."
        if name == zone:
            return Refusal(
                "InvalidChangeBatch",
                f"{record} is not permitted at apex in zone {zone}.; use an alias record of type A",
            )
        if len(types) > 1:
            others = ", ".join(sorted(types - {"CNAME"}))
            return Refusal(
                "InvalidChangeBatch",
                f"{record} is not permitted as it conflicts with other records with the same DNS name in zone {zone}.:"
                f" {others}; remove one or the other",
            )
    return None


def _refuse_record(change: Change, has_check: Callable[[str], bool]) -> Refusal | None:
    if change.type not in RECORD_TYPES:
        return Refusal(
            "InvalidInput",
            f"{change}: the lab's DNS answers {', '.join(RECORD_TYPES)} only; use one of these in env lab",
        )
    version = {"A": 4, "AAAA": 6}.get(change.type)
    for value in change.values:
        if version is not None and not is_address(value, version):
            return Refusal(
                "InvalidChangeBatch",
                f"{change}: Invalid Resource Record: {value!r} is not a valid IPv{version} address; correct it",
            )
    if change.other_policies:
        return Refusal(
            "InvalidInput",
            f"{change}: {change.other_policies[0]} is a routing policy the lab's DNS does not know;"
            " use simple or weighted records in env lab",
        )
    if change.evaluates_load_balancer:
        return Refusal(
            "InvalidInput",
            f"{change}: EvaluateTargetHealth is true, and the lab cannot evaluate a load balancer's targets as AWS"
            " does; set it to false and rest on the record's health check",
        )
    if bool(change.set_identifier) != (change.weight is not None):
        return Refusal("InvalidInput", f"{change}: Weight and SetIdentifier belong together; give both or neither")
    if change.weight is not None and not (change.weight.isdigit() and int(change.weight) in WEIGHTS):
        return Refusal(
            "InvalidInput", f"{change}: weight {change.weight} is not an integer from 0 to 255; choose one that is"
        )
    if change.health_check_id and not has_check(change.health_check_id):
        return Refusal(
            "InvalidInput",
            f"{change}: NoSuchHealthCheck: no health check exists with the id {change.health_check_id};"
            " create it before the record",
        )
    return None


def is_address(value: str, version: int) -> bool:
    """Whether a value is an IP address of that version."""
    try:
        return ipaddress.ip_address(value).version == version
    except ValueError:
        return False
