"""A site for the tests of its alerts, and what its gateways expose."""

from __future__ import annotations

from infra.alerts import Watched

WATCHED = Watched(
    site="private",
    namespace="tandem",
    model_name="recommender",
    triton_deployment="triton",
    triton_replicas=3,
    requests_per_second_per_pod=150.0,
    gateway_deployment="gateway",
    gateway_replicas=2,
    requests_per_second_per_gateway=200.0,
    availability_percent=99.9,
    queue_per_pod=8,
    replication_lag_seconds=900,
    certificate="gateway-tls",
)
