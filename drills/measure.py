"""What a drill measures from its samples; times are in seconds on the monotonic clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from drills.load import Sample
from stacks.contract import TrafficOutputs

OK = "ok"


def recovery_bound_seconds(traffic: TrafficOutputs) -> float:
    """The promise in arithmetic: detection, a cached answer's life, one last request, and a second of grace.

    Route 53 counts its interval from an answer to the next request, so a dead endpoint costs the probe's timeout too.
    """
    detection = traffic.health_threshold * (traffic.health_interval_seconds + traffic.probe_timeout_seconds)
    return detection + traffic.ttl_seconds + traffic.request_timeout_seconds + 1


def failures(samples: Iterable[Sample]) -> list[Sample]:
    """Requests without a right answer."""
    return [sample for sample in samples if sample.outcome != OK]


def recovery_seconds(samples: Iterable[Sample], broken_at: float) -> float:
    """From the fault to the end of the last failure over all users; 0 when nothing failed."""
    ends = [sample.finished for sample in failures(samples) if sample.finished >= broken_at]
    return max(ends) - broken_at if ends else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest-rank quantile; NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered), max(1, math.ceil(share * len(ordered)))) - 1]


def latency_ms(samples: Iterable[Sample]) -> dict[str, float | None]:
    """Quantiles of right answers, from the intended start to the end."""
    taken = [1000 * (sample.finished - sample.intended) for sample in samples if sample.outcome == OK]
    return {
        name: round(quantile(taken, share), 1) if taken else None
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Counts and quantiles of one stretch of time."""
    return {
        "requests": len(samples),
        "failures": len(failures(samples)),
        "outcomes": dict(sorted(Counter(sample.outcome for sample in samples).items())),
        "answers_by_site": dict(sorted(Counter(sample.site for sample in samples if sample.site).items())),
        "availability": round(1 - len(failures(samples)) / len(samples), 5) if samples else None,
        "latency_ms": latency_ms(samples),
    }


def timeline(samples: Sequence[Sample], origin: float, bucket_seconds: float = 1.0) -> list[dict[str, Any]]:
    """Answers by site and failures by kind, per bucket of intended start."""
    buckets: dict[int, Counter[str]] = {}
    for sample in samples:
        label = (sample.site or "unknown") if sample.outcome == OK else f"failed: {sample.outcome}"
        buckets.setdefault(math.floor((sample.intended - origin) / bucket_seconds), Counter())[label] += 1
    return [{"seconds": index * bucket_seconds, "counts": dict(counts)} for index, counts in sorted(buckets.items())]
