"""When a health check counts as healthy: Route 53's rules as pure functions.

Rules: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

HEALTHY_SHARE: Final = 0.18
"""An endpoint is healthy when more than this share of the checkers see it healthy."""
CALCULATED: Final = "CALCULATED"
ALARM: Final = "CLOUDWATCH_METRIC"
UNPROBED: Final = (CALCULATED, ALARM)
"""Kinds of check that no checker asks anybody for."""
STATES: Final = {"OK": True, "ALARM": False}
"""What an alarm's state says of health; without enough data it says nothing."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One declared health check."""

    id: str
    type: str
    ip_address: str = ""
    port: int = 80
    fqdn: str = ""
    path: str = "/"
    search_string: str = ""
    interval_seconds: int = 30
    failure_threshold: int = 3
    inverted: bool = False
    disabled: bool = False
    enable_sni: bool = False
    regions: tuple[str, ...] = ()
    """Where it is checked from; empty means everywhere."""
    children: tuple[str, ...] = ()
    health_threshold: int = 0
    alarm_name: str = ""
    alarm_region: str = ""
    without_data: str = ""
    """What it is while its alarm knows nothing: Healthy, Unhealthy or LastKnownStatus."""

    @classmethod
    def from_aws(cls, check: Mapping[str, Any]) -> Check:
        """From an entry of ListHealthChecks."""
        config = check["HealthCheckConfig"]
        alarm = config.get("AlarmIdentifier") or {}
        kind = config["Type"]
        return cls(
            id=check["Id"],
            type=kind,
            ip_address=config.get("IPAddress", ""),
            port=config.get("Port", 443 if kind.startswith("HTTPS") else 80),
            fqdn=config.get("FullyQualifiedDomainName", ""),
            path=config.get("ResourcePath") or "/",
            search_string=config.get("SearchString", ""),
            interval_seconds=config.get("RequestInterval", 30),
            failure_threshold=config.get("FailureThreshold", 3),
            inverted=config.get("Inverted", False),
            disabled=config.get("Disabled", False),
            enable_sni=config.get("EnableSNI", False),
            regions=tuple(config.get("Regions", ())),
            children=tuple(config.get("ChildHealthChecks", ())),
            health_threshold=config.get("HealthThreshold", 0),
            alarm_name=alarm.get("Name", ""),
            alarm_region=alarm.get("Region", ""),
            without_data=config.get("InsufficientDataHealthStatus", ""),
        )


@dataclass(frozen=True)
class Result:
    """What one probe saw; the text is written as GetHealthCheckStatus writes it."""

    healthy: bool
    text: str


@dataclass
class Checker:
    """One prober's own view of one endpoint."""

    region: str
    address: str
    """Source address of its probes."""
    number: int = 0
    """Which of the lab's checkers it is, from 0."""
    healthy: bool | None = None
    """None until the threshold was reached for the first time."""
    consecutive: int = 0
    """Results of the same kind in a row, the last one included."""
    last_healthy: bool | None = None
    last_result: str = ""
    last_time: float = 0.0
    last_failure: str = ""
    last_failure_time: float = 0.0

    def observe(self, result: Result, threshold: int, now: float) -> None:
        """Take in one result; the view flips once `threshold` results in a row say so."""
        self.consecutive = self.consecutive + 1 if result.healthy == self.last_healthy else 1
        self.last_healthy, self.last_result, self.last_time = result.healthy, result.text, now
        if not result.healthy:
            self.last_failure, self.last_failure_time = result.text, now
        if self.consecutive >= threshold:
            self.healthy = result.healthy


def endpoint_healthy(checkers: Sequence[Checker], share: float = HEALTHY_SHARE) -> bool:
    """Whether enough checkers see the endpoint healthy.

    A checker without a view yet counts as one that does: Route 53 considers a new check healthy until there is
    enough data (an inverted one therefore unhealthy).
    """
    seeing = sum(checker.healthy is not False for checker in checkers)
    return not checkers or seeing > share * len(checkers)


def alarm_healthy(check: Check, state: str, last_known: bool | None) -> bool:
    """What a check that goes by an alarm is while the alarm is in `state`; `last_known` while it had enough data.

    https://docs.aws.amazon.com/Route53/latest/APIReference/API_HealthCheckConfig.html
    """
    if state in STATES:
        return STATES[state]
    if check.without_data == "LastKnownStatus":
        return last_known is not False
    return check.without_data == "Healthy"


def healthy(
    check_id: str,
    checks: Mapping[str, Check],
    views: Mapping[str, Sequence[Checker]],
    share: float = HEALTHY_SHARE,
    heard: Mapping[str, bool] | None = None,
) -> bool:
    """The status DNS goes by.

    A disabled check is healthy. A calculated one counts healthy children against its threshold; a child that does
    not exist is not healthy, nor is a check that has itself for a descendant. Inversion comes last.
    A check that was deleted while a record names it counts as healthy: Route 53 leaves that case undefined.
    `heard` holds what the alarms say; a check whose alarm was not read yet is as one whose alarm knows nothing.
    """
    if check_id not in checks:
        return True
    return _healthy(check_id, checks, views, share, heard or {}, frozenset())


def _healthy(
    check_id: str,
    checks: Mapping[str, Check],
    views: Mapping[str, Sequence[Checker]],
    share: float,
    heard: Mapping[str, bool],
    above: frozenset[str],
) -> bool:
    if check_id not in checks or check_id in above:
        return False
    check = checks[check_id]
    if check.disabled:
        seen = True
    elif check.type == CALCULATED:
        count = sum(_healthy(child, checks, views, share, heard, above | {check_id}) for child in check.children)
        seen = count >= check.health_threshold
    elif check.type == ALARM:
        seen = heard.get(check_id, alarm_healthy(check, "", None))
    else:
        seen = endpoint_healthy(views.get(check_id, ()), share)
    return seen != check.inverted
