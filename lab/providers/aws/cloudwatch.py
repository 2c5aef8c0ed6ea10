"""CloudWatch: alarms on one metric; the lab judges them by what was really put."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lab.aws.alarm import COMPARISONS, STATISTICS, TREATMENTS
from lab.providers.aws.cloud import MARKER_TAG, Cloud, from_tag_list, to_tag_list
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import at_least, known, one_of
from lab.providers.errors import Failure
from lab.providers.naming import Naming

_WIRE: Final = {
    "actionsEnabled": "ActionsEnabled",
    "alarmActions": "AlarmActions",
    "alarmDescription": "AlarmDescription",
    "comparisonOperator": "ComparisonOperator",
    "datapointsToAlarm": "DatapointsToAlarm",
    "evaluationPeriods": "EvaluationPeriods",
    "insufficientDataActions": "InsufficientDataActions",
    "metricName": "MetricName",
    "namespace": "Namespace",
    "okActions": "OKActions",
    "period": "Period",
    "statistic": "Statistic",
    "threshold": "Threshold",
    "treatMissingData": "TreatMissingData",
    "unit": "Unit",
}
"""Properties of an alarm -> their names in the API; dimensions are told as a list."""
_NEEDED: Final = (
    "metricName",
    "namespace",
    "statistic",
    "period",
    "threshold",
    "comparisonOperator",
    "evaluationPeriods",
)
_NOT_JUDGED: Final = (
    *("metricQueries", "extendedStatistic", "thresholdMetricId", "evaluateLowSampleCountPercentiles"),
    *("evaluationCriteria", "evaluationInterval", "evaluationWindow", "warmUpConfiguration"),
)
PERIODS: Final = (10, 20, 30)
"""Seconds below a minute that a period may have; above, whole minutes."""


class MetricAlarm(AwsType):
    """An alarm on the statistic of one metric; its id is its name."""

    type_name = "aws:cloudwatch/metricAlarm:MetricAlarm"
    naming = Naming(longest=255)
    defaults: ClassVar = {"actionsEnabled": True, "treatMissingData": "missing"}
    replace_on = ("name", "region")
    in_place = (*_WIRE, "dimensions")
    unordered = frozenset({"alarmActions", "okActions", "insufficientDataActions"})
    blank: ClassVar = {"evaluateLowSampleCountPercentiles": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "comparisonOperator", *COMPARISONS)
        yield from one_of(inputs, "statistic", *STATISTICS)
        yield from one_of(inputs, "treatMissingData", *TREATMENTS)
        yield from at_least(inputs, "evaluationPeriods", 1)
        for name in _NOT_JUDGED:
            if inputs.get(name):
                yield Failure(name, f"{name} is set; the lab judges a statistic of one metric only: remove it")
        for name in _NEEDED:
            if inputs.get(name) is None:
                yield Failure(name, f"{name} is missing; an alarm on one metric needs it: give it a value")
        period = inputs.get("period")
        if known(period) and period not in PERIODS and (not isinstance(period, int) or period < 1 or period % 60):
            yield Failure("period", f"period is {period!r}; it is 10, 20, 30 or whole minutes: choose one of these")
        yield from _topics(cloud, inputs)

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        self._put(cloud, inputs["name"], inputs, {"Tags": to_tag_list(tags)})
        return str(inputs["name"])

    def _put(self, cloud: Cloud, name: str, inputs: dict[str, Any], more: dict[str, Any]) -> None:
        told = {wire: inputs[key] for key, wire in _WIRE.items() if inputs.get(key) is not None}
        dimensions = inputs.get("dimensions") or {}
        told["Dimensions"] = [{"Name": key, "Value": str(value)} for key, value in sorted(dimensions.items())]
        cloud.client("cloudwatch").put_metric_alarm(AlarmName=name, **told, **more)

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = cloud.client("cloudwatch").describe_alarms(AlarmNames=[identity])["MetricAlarms"]
        if not found:
            return None
        alarm = found[0]
        live = {name: alarm[wire] for name, wire in _WIRE.items() if alarm.get(wire) not in (None, [], "")}
        dimensions = {entry["Name"]: entry["Value"] for entry in alarm.get("Dimensions", [])}
        return {
            **live,
            **({"dimensions": dimensions} if dimensions else {}),
            "arn": alarm["AlarmArn"],
            "name": identity,
            "tagsAll": _tags(cloud, alarm["AlarmArn"]),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._put(cloud, identity, new, {})

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        client, arn = cloud.client("cloudwatch"), cloud.arn("cloudwatch", f"alarm:{identity}")
        if tags:
            client.tag_resource(ResourceARN=arn, Tags=to_tag_list(tags))
        if removed:
            client.untag_resource(ResourceARN=arn, TagKeys=removed)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        cloud.client("cloudwatch").delete_alarms(AlarmNames=[identity])

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for page in cloud.client("cloudwatch").get_paginator("describe_alarms").paginate():
            for alarm in page["MetricAlarms"]:
                yield alarm["AlarmName"], _tags(cloud, alarm["AlarmArn"]).get(MARKER_TAG)

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        return {"name": identity}


def _topics(cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
    """An alarm reaches topics of its own region only."""
    for name in ("alarmActions", "okActions", "insufficientDataActions"):
        actions = inputs.get(name)
        for action in actions if isinstance(actions, list) else []:
            if known(action) and str(action).startswith("arn:aws:sns:") and action.split(":")[3] != cloud.region:
                yield Failure(
                    name,
                    f"{name} names {action}; an alarm in {cloud.region} reaches topics there only: name one of them",
                )


def _tags(cloud: Cloud, arn: str) -> dict[str, str]:
    return from_tag_list(cloud.client("cloudwatch").list_tags_for_resource(ResourceARN=arn).get("Tags"))


TYPES: Final = (MetricAlarm,)
