"""What a drill measures from its samples; times are in seconds on the monotonic clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from drills.latency import Histogram
from drills.sample import Outcome, Sample
from drills.timeline import BUCKET_SECONDS, Timeline
from stacks.contract import ServingOutputs, TrafficOutputs

OK: Final = Outcome.OK


ANSWER_SECONDS: Final = 1.0
"""What a probe takes that is answered or refused."""
STALE_INTERVALS: Final = 3
"""Golden intervals without a right answer after which a gateway calls itself stale (serving/health.py)."""


def detection_seconds(traffic: TrafficOutputs) -> float:
    """Longest the DNS service can take to see a change.

    Route 53 counts its interval from an answer to the next request, so a dead endpoint costs the probe's timeout too.
    """
    return float(traffic.health_threshold * (traffic.health_interval_seconds + traffic.probe_timeout_seconds))


def recovery_bound_seconds(traffic: TrafficOutputs) -> float:
    """The promise in arithmetic: detection, a cached answer's life, one last request, and a second of grace."""
    return detection_seconds(traffic) + traffic.ttl_seconds + traffic.request_timeout_seconds + 1


def illness_bound_seconds(traffic: TrafficOutputs, serving: ServingOutputs) -> float:
    """The same where the site still answers that it is ill: staleness first, then probes that cost no timeout."""
    detection = traffic.health_threshold * (traffic.health_interval_seconds + ANSWER_SECONDS)
    return stale_seconds(serving) + detection + traffic.ttl_seconds + traffic.request_timeout_seconds + 1


def stale_seconds(serving: ServingOutputs) -> float:
    """Longest a site can go on calling itself well after its last right golden answer."""
    return float((STALE_INTERVALS + 1) * serving.golden_interval_seconds)


def failures(samples: Iterable[Sample]) -> list[Sample]:
    """Requests without a right answer."""
    return [sample for sample in samples if sample.outcome != OK]


def recovery_seconds(samples: Iterable[Sample], broken_at: float) -> float:
    """From the fault to the end of the last failure over all users; 0 when nothing failed."""
    ends = [sample.finished for sample in failures(samples) if sample.finished >= broken_at]
    return max(ends) - broken_at if ends else 0.0


def histogram(samples: Iterable[Sample]) -> Histogram:
    """Latency of right answers, from the intended start to the end."""
    return Histogram.of(sample.finished - sample.intended for sample in samples if sample.outcome == OK)


def latency_ms(samples: Iterable[Sample]) -> dict[str, float | None]:
    """Quantiles of right answers, from the intended start to the end."""
    return histogram(samples).quantiles_ms()


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Counts, quantiles and their histogram of one stretch of time, and the same for each client class.

    Users bound to local addresses get rows of their own as well.
    """
    by_source = _split(samples, lambda sample: sample.source or "any")
    return {
        **_counts(samples),
        "classes": {name: _counts(rows) for name, rows in _split(samples, lambda s: s.client_class).items()},
        "sources": {name: _counts(rows) for name, rows in by_source.items()} if set(by_source) - {"any"} else {},
    }


def _counts(samples: Sequence[Sample]) -> dict[str, Any]:
    latency = histogram(samples)
    return {
        "requests": len(samples),
        "failures": len(failures(samples)),
        "outcomes": _counted(sample.outcome for sample in samples),
        "answers_by_site": _counted(sample.site for sample in samples if sample.site),
        "connections": _counted(sample.way for sample in samples if sample.way),
        "availability": 1 - len(failures(samples)) / len(samples) if samples else None,
        "latency_ms": latency.quantiles_ms(),
        "latency_histogram": latency.encode() if latency.count else "",
    }


def _counted(words: Iterable[str]) -> dict[str, int]:
    return {str(word): count for word, count in sorted(Counter(words).items())}


def _split(samples: Sequence[Sample], key: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(key(sample), []).append(sample)
    return dict(sorted(found.items()))


def timeline(samples: Sequence[Sample], origin: float, bucket_seconds: float = BUCKET_SECONDS) -> dict[str, Any]:
    """Right answers by site and failures by kind over time, as a journal keeps it."""
    return Timeline.of(samples, origin, bucket_seconds).to_journal()
