"""What is known of the DNS service's health checkers: where they ask from, how long they wait, how soon they decide."""

from __future__ import annotations

from typing import Final

CONNECT_SECONDS: Final = 4
STATUS_SECONDS: Final = 2
PROBE_TIMEOUT_SECONDS: Final = CONNECT_SECONDS + STATUS_SECONDS
"""Longest one probe of a dead endpoint takes
(https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html)."""
INTERVALS: Final = (10, 30)
SCHEDULING_SECONDS: Final = 1
"""What clocks and schedulers add to a recovery on top of the arithmetic."""
ALARM_RANGE_EXTRA: Final = 2
"""Periods an alarm looks back on beyond those it judges: it goes by what it still finds there before it takes anything
for missing. The table there shows five for three:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html."""
ALARM_EVALUATION_SECONDS: Final = 60
"""How often an alarm with periods of a minute or more is judged."""
NETWORKS: Final = (
    "15.177.0.0/18",
    "54.183.255.128/26",
    "54.228.16.0/26",
    "54.232.40.64/26",
    "54.241.32.64/26",
    "54.243.31.192/26",
    "54.244.52.192/26",
    "54.245.168.0/26",
    "54.248.220.0/26",
    "54.250.253.192/26",
    "54.251.31.128/26",
    "54.252.79.128/26",
    "54.252.254.192/26",
    "54.255.254.192/26",
    "107.23.255.0/26",
    "176.34.159.192/26",
    "177.71.207.128/26",
)
"""Service ROUTE53_HEALTHCHECKS of https://ip-ranges.amazonaws.com/ip-ranges.json."""


def recovery_seconds(
    *,
    threshold: int,
    interval_seconds: int,
    ttl_seconds: int,
    request_timeout_seconds: float,
    alarm_seconds: int = 0,
) -> float:
    """Longest a user of a lost site may see errors.

    A dead endpoint costs interval and timeout for each failed probe, or what an alarm takes where a site goes by one
    and that is longer; then an answer cached at the last moment lives its TTL, and a request sent at the end of that
    waits for its own timeout.
    """
    detection = max(threshold * (interval_seconds + PROBE_TIMEOUT_SECONDS), alarm_seconds)
    return detection + ttl_seconds + request_timeout_seconds + SCHEDULING_SECONDS


def alarm_detection_seconds(*, period_seconds: int, periods: int) -> int:
    """Longest time until an alarm goes off for a metric that stopped.

    The period that had begun still counts as heard, then every period it looks back on has to be silent, and then it
    has to be judged.
    """
    return period_seconds + (periods + ALARM_RANGE_EXTRA) * period_seconds + ALARM_EVALUATION_SECONDS
