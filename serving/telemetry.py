"""What a gateway tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from serving.health import Reason, State
from serving.manifest import version_number

BUCKETS_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
HEALTHY: Final = "healthy"
NO_SURFACE: Final = "none"
"""Label of requests that were refused before they named a surface."""


class Telemetry:
    """Requests by site, surface and code; latency; golden health; who is inside and connected; which digest is served.

    One registry per gateway.
    """

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(
        self,
        site: str,
        health: Callable[[], State],
        *,
        connections: Callable[[], int],
        in_flight: Callable[[], int],
        concurrency_limit: int,
        site_draining: Callable[[], bool],
    ) -> None:
        self._site = site
        self._health = health
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tandem_requests", "Requests for recommendations.", ("site", "surface", "code"), registry=self._registry
        )
        self._latency = Histogram(
            "tandem_request_duration_seconds",
            "From the request's headers to its answer.",
            ("site", "surface"),
            buckets=BUCKETS_SECONDS,
            registry=self._registry,
        )
        # Resolved once: turning requests away has to stay cheap. What is turned away unread is timed nowhere.
        shed = Counter(
            "tandem_shed", "Requests for recommendations answered with 429.", ("site",), registry=self._registry
        )
        self.count_shed: Callable[[], None] = shed.labels(site).inc
        self.count_unread: Callable[[], None] = self._requests.labels(site, NO_SURFACE, "429").inc
        wrong = Counter(
            "tandem_wrong_answers",
            "Answers of the model servers that were found wrong; none was served.",
            ("site",),
            registry=self._registry,
        )
        self.count_wrong: Callable[[], None] = wrong.labels(site).inc
        self._gauge("tandem_connections", "Open connections that asked for a recommendation.").set_function(connections)
        self._gauge("tandem_in_flight", "Requests for recommendations inside.").set_function(in_flight)
        self._gauge("tandem_concurrency_limit", "Requests inside at most; one more is shed.").set(concurrency_limit)
        self._gauge("tandem_site_draining", "1 while the site is being emptied.").set_function(site_draining)
        self._age = Gauge(
            "tandem_golden_age_seconds",
            "Seconds since the last good golden answer; NaN before the first.",
            ("site",),
            registry=self._registry,
        )
        self._result = Gauge(
            "tandem_golden_result", "1 for the present state of health.", ("site", "result"), registry=self._registry
        )
        self._model = Gauge(
            "tandem_model_info", "1 for the version served.", ("site", "digest", "version"), registry=self._registry
        )
        ProcessCollector(registry=self._registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, ("site",), registry=self._registry).labels(self._site)

    def observe(self, surface: str, code: int, seconds: float) -> None:
        """Count one request that has been answered."""
        self._requests.labels(self._site, surface, str(code)).inc()
        self._latency.labels(self._site, surface).observe(seconds)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        state = self._health()
        self._age.labels(self._site).set(float("nan") if state.age_seconds is None else state.age_seconds)
        present = state.reason or HEALTHY
        for result in (HEALTHY, *Reason):
            self._result.labels(self._site, result).set(result == present)
        self._model.clear()
        self._model.labels(self._site, state.digest, str(version_number(state.digest))).set(1)
        return generate_latest(self._registry)
