"""Health checks that go by a CloudWatch alarm: what Route 53 takes, and how moto, which knows none, keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.etree import ElementTree as ET

from moto.route53.models import HealthCheck

from lab.aws.route53_rules import parse

ALARM: Final = "CLOUDWATCH_METRIC"
WITHOUT_DATA: Final = ("Healthy", "Unhealthy", "LastKnownStatus")
DEFAULT_WITHOUT_DATA: Final = "LastKnownStatus"
OF_ENDPOINTS: Final = (
    "IPAddress",
    "Port",
    "ResourcePath",
    "FullyQualifiedDomainName",
    "SearchString",
    "RequestInterval",
)

AlarmExists = Callable[[str, str], bool]
"""Whether there is an alarm in this region of this name."""


def alarm_of(config: ET.Element) -> tuple[str, str]:
    """Region and name of the alarm; empty where the request names none."""
    return config.findtext("AlarmIdentifier/Region") or "", config.findtext("AlarmIdentifier/Name") or ""


def alarm_complaints(kind: str, config: ET.Element, exists: AlarmExists, *, new: bool) -> Iterator[str]:
    """Why a request to make or change a check of this kind is refused, as far as alarms go."""
    status, (region, name) = config.findtext("InsufficientDataHealthStatus"), alarm_of(config)
    if kind != ALARM:
        if status is not None:
            yield f"InsufficientDataHealthStatus belongs to {ALARM} health checks; remove it"
        if region or name:
            yield f"AlarmIdentifier belongs to {ALARM} health checks; remove it"
        return
    if status is not None and status not in WITHOUT_DATA:
        yield f"InsufficientDataHealthStatus {status}: allowed are {', '.join(WITHOUT_DATA)}; choose one"
    if (new or region or name) and not (region and name):
        yield f"a {ALARM} health check needs an AlarmIdentifier with Region and Name; give both"
    elif name and not exists(region, name):
        yield f"there is no alarm {name} in {region}; create it first"
    for tag in OF_ENDPOINTS:
        if config.findtext(tag):
            yield f"a {ALARM} health check takes no {tag}; remove it"


class AlarmCheck(HealthCheck):
    """One of moto's health checks that goes by an alarm."""

    alarm_region: str
    alarm_name: str
    without_data: str

    @property
    def health_check_config(self) -> dict[str, Any]:
        """As Route 53 tells it: no endpoint, but an alarm."""
        return {
            "Type": self.type_,
            "Inverted": self.inverted,
            "Disabled": self.disabled,
            "AlarmIdentifier": {"Region": self.alarm_region, "Name": self.alarm_name},
            "InsufficientDataHealthStatus": self.without_data,
        }


def keep_alarm(check: HealthCheck, body: bytes) -> None:
    """Have the check remember what the request says of its alarm, and tell it when asked."""
    root = parse(body)
    config = root.find("HealthCheckConfig")
    config = root if config is None else config
    if not isinstance(check, AlarmCheck):
        check.__class__ = AlarmCheck  # type: ignore[type-abstract]  # moto's own class is as abstract, and instantiated
    known: Any = check
    region, name = alarm_of(config)
    if name:
        known.alarm_region, known.alarm_name = region, name
    status = config.findtext("InsufficientDataHealthStatus")
    known.without_data = status or getattr(check, "without_data", DEFAULT_WITHOUT_DATA)
