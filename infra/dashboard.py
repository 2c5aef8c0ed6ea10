"""One dashboard per site, a row for each promise: what Grafana shows of the records the alerts go by. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from infra.alerts import Watched

DATASOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
"""As kube-prometheus-stack calls its own Prometheus."""
WIDTH: Final = 12
HEIGHT: Final = 7


def panels(watched: Watched) -> dict[str, tuple[str, str]]:
    """Title to expression and unit, in the order they are shown, two in a row."""
    ours = f'{{site="{watched.site}"}}'
    found = {
        "Gateways by golden result": (f"sum by (result) (tandem_golden_result{ours})", "none"),
        "Age of the last golden answer": (f"tandem:golden_age_seconds{ours}", "s"),
        "Requests by code": (f"sum by (code) (rate(tandem_requests_total{ours}[5m]))", "reqps"),
        "Share of failed requests": (f"tandem:requests_failed:ratio5m{ours}", "percentunit"),
        "Latency, p99": (
            f"histogram_quantile(0.99, sum by (le) (rate(tandem_request_duration_seconds_bucket{ours}[5m])))",
            "s",
        ),
        "In flight, share of the limit": (f"tandem:in_flight:ratio{ours}", "percentunit"),
        "Queue for each model server": (f"tandem:queue_per_pod{ours}", "none"),
        "Capacity of the pods that are there": (f"tandem:capacity_requests_per_second{ours}", "reqps"),
    }
    if watched.replication_lag_seconds:
        found["Lag of the copies"] = (f"tandem:replication_lag_seconds{ours}", "s")
    return found


def document(watched: Watched) -> str:
    """The dashboard in Grafana's JSON."""
    shown = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": DATASOURCE,
            "gridPos": {"h": HEIGHT, "w": WIDTH, "x": WIDTH * (number % 2), "y": HEIGHT * (number // 2)},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [{"refId": "A", "datasource": DATASOURCE, "expr": expression}],
        }
        for number, (title, (expression, unit)) in enumerate(panels(watched).items())
    ]
    board: dict[str, Any] = {
        "uid": f"tandem-{watched.site}",
        "title": f"Tandem, site {watched.site}",
        "tags": ["tandem"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": shown,
    }
    return json.dumps(board, indent=1)
