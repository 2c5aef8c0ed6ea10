"""Which answer a hosted zone gives: Route 53's selection rules as pure functions.

Rules: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/health-checks-how-route-53-chooses-records.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from lab.aws.route53_rules import plain_name

ALIAS_TTL_SECONDS: Final = 60
"""Route 53 answers aliases to load balancers with a TTL of its own."""
CHAIN_LIMIT: Final = 8
"""Steps followed through CNAME records and aliases before giving up."""

Healthy = Callable[[str], bool]
"""Whether the health check with this id counts as healthy."""
Pick = Callable[[int], int]
"""A number from 0 up to, not including, its argument; the only source of chance."""


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Where an alias record points."""

    target: str
    evaluates_target_health: bool = False


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record set as the API stores it; its name is in lower case without the last dot."""

    name: str
    type: str
    ttl: int = 0
    values: tuple[str, ...] = ()
    set_identifier: str = ""
    weight: int | None = None
    health_check_id: str = ""
    alias: Alias | None = None

    @classmethod
    def from_aws(cls, record: Mapping[str, Any]) -> Record:
        """From an entry of ListResourceRecordSets."""
        alias = record.get("AliasTarget")
        return cls(
            name=plain_name(record["Name"]),
            type=record["Type"],
            ttl=int(record.get("TTL", 0)),
            values=tuple(entry["Value"] for entry in record.get("ResourceRecords", ())),
            set_identifier=record.get("SetIdentifier", ""),
            weight=record.get("Weight"),
            health_check_id=record.get("HealthCheckId", ""),
            alias=alias
            and Alias(
                target=plain_name(alias["DNSName"]), evaluates_target_health=bool(alias.get("EvaluateTargetHealth"))
            ),
        )


@dataclass(frozen=True)
class Zone:
    """A hosted zone and its records."""

    name: str
    records: tuple[Record, ...]

    @cached_property
    def groups(self) -> dict[tuple[str, str], list[Record]]:
        """Records by name and type."""
        found: dict[tuple[str, str], list[Record]] = {}
        for record in self.records:
            found.setdefault((record.name, record.type), []).append(record)
        return found

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that exists, those above a record's name included (RFC 8020)."""
        found = {self.name}
        for record in self.records:
            name = record.name
            while is_under(name, self.name) and name not in found:
                found.add(name)
                name = name.partition(".")[2]
        return frozenset(found)

    def owner(self, name: str) -> str | None:
        """The name whose records answer for `name`: itself, the wildcard that covers it, or None."""
        if name in self.names:
            return name
        parent = name.partition(".")[2]
        while parent not in self.names:
            parent = parent.partition(".")[2]
        wildcard = f"*.{parent}"
        return wildcard if wildcard in self.names else None

    def delegation(self, name: str) -> list[Record]:
        """NS records of the subzone `name` was handed to, if it was."""
        while name != self.name:
            if (name, "NS") in self.groups:
                return self.groups[name, "NS"]
            name = name.partition(".")[2]
        return []


@dataclass(frozen=True)
class Line:
    """One resource record of an answer."""

    name: str
    type: str
    ttl: int
    value: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent back: a response code, whether with authority, and the lines of two sections."""

    code: str
    authoritative: bool = True
    answers: tuple[Line, ...] = ()
    authority: tuple[Line, ...] = ()


def is_under(name: str, zone: str) -> bool:
    """Whether `name` is `zone` or lies below it."""
    return name == zone or name.endswith(f".{zone}")


def choose(records: Sequence[Record], is_healthy: Callable[[Record], bool], pick: Pick) -> Record | None:
    """The record of a group that answers this query.

    Among healthy records the share of each is its weight by the sum of weights. Records of weight 0 are used only
    when no healthy one has a weight above 0, then in equal parts. When none is healthy, all count as healthy.
    """
    able = [record for record in records if is_healthy(record)] or list(records)
    total = sum(record.weight or 0 for record in able)
    if total == 0:
        return able[pick(len(able))] if able else None
    mark = pick(total)
    for record in able:
        mark -= record.weight or 0
        if mark < 0:
            return record
    raise AssertionError(f"pick({total}) gave a number outside its range")


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """Answers questions from the zones, the health of now, and a source of chance."""

    zones: Sequence[Zone]
    healthy: Healthy
    pick: Pick
    load_balancers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses behind the DNS names of load balancers."""

    def zone_of(self, name: str) -> Zone | None:
        """The longest zone that holds `name`."""
        holding = [zone for zone in self.zones if is_under(name, zone.name)]
        return max(holding, key=lambda zone: len(zone.name), default=None)

    def resolve(self, question: str, kind: str) -> Answer:
        """The answer to a question of class IN."""
        name = plain_name(question)
        zone = self.zone_of(name)
        if zone is None:
            return Answer(code="REFUSED", authoritative=False)
        lines: list[Line] = []
        owner = question.rstrip(".")
        for _ in range(CHAIN_LIMIT):
            delegated = zone.delegation(name)
            if delegated:
                authority = tuple(_lines(delegated[0], delegated[0].name))
                return Answer(code="NOERROR", authoritative=bool(lines), answers=tuple(lines), authority=authority)
            source = zone.owner(name)
            if source is None:
                return Answer(code="NXDOMAIN", answers=tuple(lines), authority=_negative(zone))
            cname = None if kind == "CNAME" else self._chosen(zone, source, "CNAME")
            if cname is None:
                found = self._found(zone, source, kind, owner)
                answers = (*lines, *found)
                return Answer(code="NOERROR", answers=answers, authority=() if found else _negative(zone))
            lines += _lines(cname, owner)
            owner = name = plain_name(cname.values[0] if cname.values else "")
            following = self.zone_of(name)
            if following is None:
                return Answer(code="NOERROR", answers=tuple(lines))
            zone = following
        return Answer(code="SERVFAIL", authoritative=False)

    def _chosen(self, zone: Zone, name: str, kind: str, depth: int = 0) -> Record | None:
        records = zone.groups.get((name, kind), ())
        return choose(records, lambda record: self._healthy_record(record, depth), self.pick)

    def _healthy_record(self, record: Record, depth: int) -> bool:
        if record.health_check_id and not self.healthy(record.health_check_id):
            return False
        if record.alias is None or not record.alias.evaluates_target_health or depth >= CHAIN_LIMIT:
            return True
        zone = self.zone_of(record.alias.target)
        targets = zone.groups.get((record.alias.target, record.type), ()) if zone else ()
        return not targets or any(self._healthy_record(target, depth + 1) for target in targets)

    def _found(self, zone: Zone, name: str, kind: str, owner: str, depth: int = 0) -> list[Line]:
        record = self._chosen(zone, name, kind, depth)
        if record is None or depth >= CHAIN_LIMIT:
            return []
        if record.alias is None:
            return _lines(record, owner)
        if record.alias.target in self.load_balancers:
            addresses = self.load_balancers[record.alias.target]
            return [Line(owner, kind, ALIAS_TTL_SECONDS, address) for address in addresses]
        target_zone = self.zone_of(record.alias.target)
        if target_zone is None:
            return []
        return self._found(target_zone, record.alias.target, kind, owner, depth + 1)


def _lines(record: Record, owner: str) -> list[Line]:
    return [Line(owner, record.type, record.ttl, value) for value in record.values]


def _negative(zone: Zone) -> tuple[Line, ...]:
    """The SOA record of a negative answer, whose TTL says how long it may be kept (RFC 2308)."""
    for record in zone.groups.get((zone.name, "SOA"), ()):
        for value in record.values:
            return (Line(zone.name, "SOA", min(record.ttl, int(value.split()[6])), value),)
    return ()
