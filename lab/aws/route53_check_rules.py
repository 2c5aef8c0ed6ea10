"""What Route 53 refuses of health checks and moto lets pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from xml.etree import ElementTree as ET

from lab.aws.prober_settings import REGIONS
from lab.aws.route53_alarm_rules import ALARM, AlarmExists, alarm_complaints
from lab.aws.route53_rules import CHECK_TYPES, HOST_NAME, Refusal, parse

CALCULATED: Final = "CALCULATED"
INTERVALS: Final = (10, 30)
THRESHOLDS: Final = range(1, 11)
HEALTH_THRESHOLDS: Final = range(257)
CHILDREN_LIMIT: Final = 256
FEWEST_REGIONS: Final = 3
SEARCH_STRING_LIMIT: Final = 255


def refuse_check(
    body: bytes,
    kinds: Mapping[str, str],
    known_type: str | None = None,
    alarm_exists: AlarmExists = lambda _, __: True,
) -> Refusal | None:
    """Why a CreateHealthCheck request, or an update of a check of `known_type`, is refused; None when it is not.

    `kinds` maps the id of every check there is to its type.
    """
    root = parse(body)
    config = root.find("HealthCheckConfig")
    config = root if config is None else config
    kind = known_type or config.findtext("Type") or ""
    if kind not in CHECK_TYPES:
        reason = f"health check type {kind!r}: the lab's prober knows {', '.join(CHECK_TYPES)}; use one"
        return Refusal("InvalidInput", reason)
    complaints = (
        *_ranges(config),
        *_regions(config),
        *_children(config, kinds),
        *alarm_complaints(kind, config, alarm_exists, new=known_type is None),
        *(() if known_type else _missing(kind, config)),
    )
    return Refusal("InvalidInput", complaints[0]) if complaints else None


def refuse_deletion(check_id: str, children: Mapping[str, Iterable[str]]) -> Refusal | None:
    """Why a check cannot be deleted; `children` maps each calculated check to what it rests on.

    Records that name the check do not hold it. The API's HealthCheckInUse is documented as not in use:
    https://docs.aws.amazon.com/Route53/latest/APIReference/API_DeleteHealthCheck.html
    """
    for parent in sorted(parent for parent, members in children.items() if check_id in members):
        return Refusal(
            "InvalidInput",
            f"health check {check_id} is a child of the calculated health check {parent}; take it out of that one's"
            " ChildHealthChecks first",
        )
    return None


def _ranges(config: ET.Element) -> Iterator[str]:
    interval = config.findtext("RequestInterval")
    if interval is not None and interval not in map(str, INTERVALS):
        yield f"RequestInterval {interval}: allowed are 10 and 30 seconds; choose one"
    threshold = config.findtext("FailureThreshold")
    if threshold is not None and not (threshold.isdigit() and int(threshold) in THRESHOLDS):
        yield f"FailureThreshold {threshold}: it must be from 1 to 10; choose one that is"
    share = config.findtext("HealthThreshold")
    if share is not None and not (share.isdigit() and int(share) in HEALTH_THRESHOLDS):
        yield f"HealthThreshold {share}: it must be from 0 to 256; choose one that is"
    search = config.findtext("SearchString")
    if search is not None and not 0 < len(search) <= SEARCH_STRING_LIMIT:
        yield f"SearchString of {len(search)} characters: 1 to 255 are allowed; adapt it"
    name = config.findtext("FullyQualifiedDomainName")
    if name and not re.fullmatch(HOST_NAME, name):
        yield (
            f"FullyQualifiedDomainName {name!r}: a host name has labels of 1 to 63 letters, digits, hyphens and"
            " underscores between single dots; correct it"
        )


def _regions(config: ET.Element) -> Iterator[str]:
    regions = [region.text or "" for region in config.iterfind("Regions/Region")]
    for region in regions:
        if region not in REGIONS:
            yield f"Region {region}: Route 53 checks health from {', '.join(REGIONS)}; choose of these"
    if regions and len(set(regions)) < FEWEST_REGIONS:
        yield f"Regions {', '.join(regions)}: at least three are needed; name more, or none for all"


def _children(config: ET.Element, kinds: Mapping[str, str]) -> Iterator[str]:
    children = [child.text or "" for child in config.iterfind("ChildHealthChecks/ChildHealthCheck")]
    for child in children:
        if child not in kinds:
            yield f"ChildHealthCheck {child} does not exist; create it first"
        elif kinds[child] == CALCULATED:
            yield f"ChildHealthCheck {child} is itself CALCULATED, and these cannot be nested; name its children"
    if len(children) > CHILDREN_LIMIT:
        yield f"{len(children)} ChildHealthChecks: at most {CHILDREN_LIMIT} are allowed; name fewer"


def _missing(kind: str, config: ET.Element) -> Iterator[str]:
    if kind == CALCULATED:
        if config.find("ChildHealthChecks/ChildHealthCheck") is None:
            yield "a CALCULATED health check has no ChildHealthChecks; name at least one"
        if config.findtext("HealthThreshold") is None:
            yield "a CALCULATED health check must have a HealthThreshold: say how many children have to be healthy"
        return
    if kind == ALARM:
        return
    if not config.findtext("IPAddress") and not config.findtext("FullyQualifiedDomainName"):
        yield f"a {kind} health check needs IPAddress or FullyQualifiedDomainName; give one"
    search = config.findtext("SearchString")
    if kind.endswith("_STR_MATCH") != (search is not None):
        yield f"a {kind} health check {'needs a' if search is None else 'takes no'} SearchString"
    if kind == "TCP" and not config.findtext("Port"):
        yield "a TCP health check needs a Port; give one"
