"""When a CloudWatch alarm goes off: its rules as pure functions.

Rules: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html and, for what is missing,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

OK: Final = "OK"
ALARM: Final = "ALARM"
INSUFFICIENT: Final = "INSUFFICIENT_DATA"
RANGE_EXTRA: Final = 2
"""Periods looked at beyond those that are judged; AWS tells none but five for three, and the lab takes two for all."""
COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
STATISTICS: Final = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
TREATMENTS: Final = ("breaching", "notBreaching", "ignore", "missing")


@dataclass(frozen=True)
class Sample:
    """One value of a metric, or the summary of several."""

    time: float
    sum: float
    minimum: float
    maximum: float
    count: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What an alarm goes by."""

    statistic: str
    comparison: str
    threshold: float
    period_seconds: float
    periods: int
    to_alarm: int
    """Periods that have to breach the threshold."""
    treatment: str = "missing"

    @property
    def looked_at(self) -> int:
        """Periods whose data is looked at."""
        return self.periods + RANGE_EXTRA

    @property
    def reach_seconds(self) -> float:
        """How far back data can matter, the period that has begun included."""
        return (self.looked_at + 1) * self.period_seconds

    def breaches(self, value: float) -> bool:
        """Whether a period with this value counts towards the alarm."""
        return COMPARISONS[self.comparison](value, self.threshold)


def points(rule: Rule, samples: Iterable[Sample], now: float) -> list[float | None]:
    """The statistic of each whole period looked at, the latest first; None where nothing was heard.

    Periods begin at multiples of their length; the one that has begun is not judged before it is over.
    """
    current = int(now // rule.period_seconds)
    buckets: dict[int, list[Sample]] = {}
    for sample in samples:
        age = current - int(sample.time // rule.period_seconds)
        if 1 <= age <= rule.looked_at:
            buckets.setdefault(age, []).append(sample)
    return [_statistic(rule.statistic, buckets.get(age, ())) for age in range(1, rule.looked_at + 1)]


def _statistic(name: str, samples: Sequence[Sample]) -> float | None:
    if not samples:
        return None
    count, total = sum(sample.count for sample in samples), sum(sample.sum for sample in samples)
    match name:
        case "SampleCount":
            return count
        case "Sum":
            return total
        case "Average":
            return total / count
        case "Minimum":
            return min(sample.minimum for sample in samples)
    return max(sample.maximum for sample in samples)


def judge(rule: Rule, found: Sequence[float | None], before: str) -> str:
    """The alarm's state by the periods looked at, the latest first; `before` is what it was.

    Enough real values decide alone, those from further back included, and nothing counts as missing. Where there are
    too few, what is missing is filled in as the alarm says.
    """
    real = [rule.breaches(value) for value in found if value is not None][: rule.periods]
    lacking = rule.periods - len(real)
    if not lacking:
        return ALARM if sum(real) >= rule.to_alarm else OK
    match rule.treatment:
        case "breaching":
            return ALARM if sum(real) + lacking >= rule.to_alarm else OK
        case "notBreaching":
            return ALARM if sum(real) >= rule.to_alarm else OK
        case "ignore":
            return before if all(real) else OK
    if not real:
        return INSUFFICIENT
    return ALARM if all(real) else OK
