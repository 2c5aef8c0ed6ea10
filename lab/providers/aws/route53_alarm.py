"""Route 53: health checks that go by a CloudWatch alarm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lab.aws.route53_alarm_rules import ALARM, DEFAULT_WITHOUT_DATA, WITHOUT_DATA
from lab.providers.aws.rules import one_of
from lab.providers.errors import Failure

NAMES: Final = ("cloudwatchAlarmName", "cloudwatchAlarmRegion", "insufficientDataHealthStatus")
"""Properties that only such a check has; all can be changed in place."""


def alarm_wire(inputs: dict[str, Any]) -> dict[str, Any]:
    """What the API is told of the alarm; nothing for other kinds of check."""
    if inputs.get("type") != ALARM:
        return {}
    return {
        "AlarmIdentifier": {"Name": inputs["cloudwatchAlarmName"], "Region": inputs["cloudwatchAlarmRegion"]},
        "InsufficientDataHealthStatus": inputs.get("insufficientDataHealthStatus") or DEFAULT_WITHOUT_DATA,
    }


def alarm_live(config: dict[str, Any]) -> dict[str, Any]:
    """What the API tells of the alarm, as properties."""
    alarm = config.get("AlarmIdentifier")
    if not alarm:
        return {}
    return {
        "cloudwatchAlarmName": alarm["Name"],
        "cloudwatchAlarmRegion": alarm["Region"],
        "insufficientDataHealthStatus": config.get("InsufficientDataHealthStatus", ""),
    }


def alarm_rules(inputs: dict[str, Any]) -> Iterator[Failure]:
    """An alarm belongs to the one kind of check, and that one needs it."""
    kind = inputs.get("type")
    yield from one_of(inputs, "insufficientDataHealthStatus", *WITHOUT_DATA)
    for name in NAMES:
        if kind == ALARM and name != "insufficientDataHealthStatus" and not inputs.get(name):
            yield Failure(name, f"a {ALARM} check has no {name}; it goes by an alarm: name it and its region")
        if isinstance(kind, str) and kind != ALARM and inputs.get(name) is not None:
            yield Failure(name, f"{name} is set on a {kind} check; only {ALARM} goes by an alarm: remove it")
