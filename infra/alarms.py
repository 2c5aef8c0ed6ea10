"""Alarms of the DNS service's view of the sites, and the one that speaks for a site nobody can ask.

Metrics of health checks are in us-east-1 and nowhere else, so an alarm on one needs a provider of that region
(https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/monitoring-health-checks.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import cloudwatch

from infra import golden_metric, naming

HEALTH_REGION: Final = "us-east-1"
HEALTH_PERIOD_SECONDS: Final = 60
"""How often the DNS service publishes a check's status."""


@dataclass(frozen=True, kw_only=True)
class SiteAlarmsArgs:
    """Whose checks, and who is told."""

    site: str
    golden: Input[str]
    """Id of the check that says whether the site is well."""
    serving: Input[str]
    """Id of the check its records go by."""
    topic: Input[str]
    tags: dict[str, str] = field(default_factory=dict)


class SiteAlarms(pulumi.ComponentResource):
    """Nobody learns from users that a site is ill, or that it gets no traffic."""

    def __init__(self, name: str, args: SiteAlarmsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:alarms:SiteAlarms", name, {}, opts)
        self._status(f"{name}-ill", args, args.golden, f"Site {args.site} gives no golden answer; users are led away.")
        self._status(
            f"{name}-away",
            args,
            args.serving,
            f"Site {args.site} is out of DNS: it is ill, or somebody drained it and has not ended that.",
        )
        self.register_outputs({})

    def _status(self, name: str, args: SiteAlarmsArgs, check: Input[str], says: str) -> None:
        """An alarm that goes off within about two minutes of the check, and also when nothing is heard of it."""
        cloudwatch.MetricAlarm(
            name,
            alarm_description=says,
            namespace="AWS/Route53",
            metric_name="HealthCheckStatus",
            dimensions={"HealthCheckId": check},
            statistic="Minimum",
            comparison_operator="LessThanThreshold",
            threshold=1,
            period=HEALTH_PERIOD_SECONDS,
            evaluation_periods=1,
            # Silence is told as silence: a check that was just made has no status yet and is not ill.
            treat_missing_data="missing",
            alarm_actions=[args.topic],
            ok_actions=[args.topic],
            insufficient_data_actions=[args.topic],
            tags={**args.tags, **naming.tags(args.site)},
            opts=ResourceOptions(parent=self),
        )


@dataclass(frozen=True, kw_only=True)
class HeartbeatAlarmArgs:
    """Which site speaks for itself, and how long its silence is borne."""

    environment: str
    site: str
    treat_missing_data: str
    """Has to be said: a site that says nothing is a site that is lost."""
    period_seconds: int = golden_metric.RESOLUTION_SECONDS
    periods: int = 1
    topic: Input[str]
    tags: dict[str, str] = field(default_factory=dict)


class HeartbeatAlarm(pulumi.ComponentResource):
    """The word of a site that the health checkers cannot reach: silence counts as illness."""

    alarm_name: Output[str]
    triggers: Mapping[str, str]
    """What the DNS service has to be told again when it changes: it keeps a copy of the alarm's settings
    (https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/health-checks-creating-deleting.html)."""

    def __init__(self, name: str, args: HeartbeatAlarmArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:alarms:HeartbeatAlarm", name, {}, opts)
        alarm = cloudwatch.MetricAlarm(
            name,
            alarm_description=f"Site {args.site} says that it is not golden, or says nothing.",
            namespace=golden_metric.NAMESPACE,
            metric_name=golden_metric.METRIC,
            dimensions=golden_metric.dimensions(args.environment, args.site),
            statistic=golden_metric.STATISTIC,
            comparison_operator="LessThanThreshold",
            threshold=golden_metric.SHARE,
            period=args.period_seconds,
            evaluation_periods=args.periods,
            treat_missing_data=args.treat_missing_data,
            alarm_actions=[args.topic],
            ok_actions=[args.topic],
            tags={**args.tags, **naming.tags(args.site)},
            opts=ResourceOptions(parent=self),
        )
        self.alarm_name = alarm.name
        self.triggers = {
            "period": str(args.period_seconds),
            "periods": str(args.periods),
            "share": str(golden_metric.SHARE),
            "treat_missing_data": args.treat_missing_data,
        }
        self.register_outputs({"alarm_name": self.alarm_name})
