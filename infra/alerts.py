"""What of a site's metrics is worth waking somebody for: Prometheus rules as data, from their arguments alone.

Each site is judged by its own Prometheus. What no Prometheus can see, a site that is gone together with it, the DNS
service's alarms tell (infra/alarms.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from infra import lag_exporter, naming

RUNBOOK: Final = "docs/alerts.md"
INTERVAL: Final = "30s"
"""How often the rules are judged."""
BURNS: Final = (("5m", "1h", 14.4), ("30m", "6h", 6.0))
"""Short window, long window, and how many times too fast the error budget burns in both: 2 % of a month's budget in an
hour, 5 % in six (https://sre.google/workbook/alerting-on-slos/)."""
TELLING_REQUESTS: Final = 100
"""Fewer in an hour say nothing about a share of failures."""
FULL_SHARE: Final = 0.8
"""Of its capacity: above it there is no room for another site's users."""
CERTIFICATE_DAYS: Final = 21
"""Left of a certificate that cert-manager should have renewed when 30 were left (infra/tls.py)."""
SILENT_WINDOW: Final = "1h"
"""CloudWatch publishes on a best effort, and an exporter asks it every few minutes."""

PENDING: Final = "nv_inference_pending_request_count"
AVAILABLE: Final = "kube_deployment_status_replicas_available"
EXPIRY: Final = "certmanager_certificate_expiration_timestamp_seconds"
S3_LAG: Final = lag_exporter.METRIC
METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

ELSEWHERE: Final = {
    PENDING: "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html",
    AVAILABLE: "https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/deployment-metrics.md",
    EXPIRY: "https://cert-manager.io/docs/devops-tips/prometheus-metrics/",
    # ReplicationLatency, as YACE and the CloudWatch exporter name it. S3 publishes it in the region of the copy.
    S3_LAG: "https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html",
}
"""Metrics the rules rest on that are not the gateway's, and who documents them."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A site as its rules see it."""

    site: str
    namespace: str
    model_name: str
    triton_deployment: str
    triton_replicas: int
    requests_per_second_per_pod: float
    gateway_deployment: str
    gateway_replicas: int
    requests_per_second_per_gateway: float
    availability_percent: float
    """The promise whose budget burns."""
    queue_per_pod: int
    """Requests that may wait for one Triton pod."""
    replication_lag_seconds: int
    """How far copies of this site's data may lag; 0 where nothing is copied."""
    replication_lag_metric: str = S3_LAG
    """Seconds, as whoever watches the copies tells them to Prometheus."""
    certificate: str = ""
    """The Certificate the gateways show; empty where something else ends TLS."""

    @property
    def requests_per_second(self) -> float:
        """What the site is declared to carry."""
        return min(
            self.triton_replicas * self.requests_per_second_per_pod,
            self.gateway_replicas * self.requests_per_second_per_gateway,
        )


Rules = list[dict[str, Any]]


def groups(watched: Watched) -> Rules:
    """The rule groups of a site, as Prometheus reads them."""
    alerts = [
        _unhealthy(watched),
        _mismatch(watched),
        _burn(watched),
        *([_lag(watched)] if watched.replication_lag_seconds else []),
        _queue(watched),
        _headroom(watched),
    ]
    found = [("records", _records(watched)), ("alerts", alerts)]
    if watched.certificate:
        found.append(("certificates", [_certificate(watched)]))
    return [
        {"name": f"{naming.PROJECT}-{watched.site}-{name}", "interval": INTERVAL, "rules": rules}
        for name, rules in found
    ]


def _records(watched: Watched) -> Rules:
    """What alerts and dashboard both ask for."""
    ours = f'{{site="{watched.site}"}}'
    requests = f"tandem_requests_total{ours}"
    failed = f'tandem_requests_total{{site="{watched.site}",code=~"5.."}}'
    pending = f'{PENDING}{{site="{watched.site}",model="{watched.model_name}"}}'
    carried = " or ".join(
        f"sum by (deployment) ({AVAILABLE}"
        f'{{namespace="{watched.namespace}",deployment="{deployment}"}}) * {requests_per_second:g}'
        for deployment, requests_per_second in (
            (watched.triton_deployment, watched.requests_per_second_per_pod),
            (watched.gateway_deployment, watched.requests_per_second_per_gateway),
        )
    )
    windows = sorted({window for short, long, _ in BURNS for window in (short, long)})
    found = {
        "tandem:healthy_gateways": f'sum(tandem_golden_result{{site="{watched.site}",result="healthy"}}) or vector(0)',
        "tandem:golden_age_seconds": f"max(tandem_golden_age_seconds{ours})",
        "tandem:wrong_answers:increase5m": f"sum(increase(tandem_wrong_answers_total{ours}[5m]))",
        "tandem:requests:rate5m": f"sum(rate({requests}[5m]))",
        "tandem:requests:increase1h": f"sum(increase({requests}[1h]))",
        **{
            f"tandem:requests_failed:ratio{window}": f"sum(rate({failed}[{window}])) / sum(rate({requests}[{window}]))"
            for window in windows
        },
        "tandem:shed:rate5m": f"sum(rate(tandem_shed_total{ours}[5m]))",
        "tandem:in_flight:ratio": f"sum(tandem_in_flight{ours}) / sum(tandem_concurrency_limit{ours})",
        "tandem:queue_per_pod": f"avg({pending})",
        "tandem:capacity_requests_per_second": f"min({carried})",
    }
    if watched.replication_lag_seconds:
        found["tandem:replication_lag_seconds"] = f"max({watched.replication_lag_metric})"
    return [
        {"record": record, "expr": expression, "labels": {"site": watched.site}} for record, expression in found.items()
    ]


def _record(watched: Watched, name: str) -> str:
    return f'tandem:{name}{{site="{watched.site}"}}'


def _unhealthy(watched: Watched) -> dict[str, Any]:
    # Also while none of them can be heard: a site nobody hears of is not assumed to be well.
    return _alert(
        watched,
        "TandemSiteUnhealthy",
        f"{_record(watched, 'healthy_gateways')} < 1",
        lasting="1m",
        severity="page",
        says=f"No gateway of site {watched.site} gives golden answers; DNS leads users away from it.",
    )


def _mismatch(watched: Watched) -> dict[str, Any]:
    return _alert(
        watched,
        "TandemGoldenMismatch",
        f"{_record(watched, 'wrong_answers:increase5m')} > 0",
        severity="page",
        says=f"Model servers of site {watched.site} answered wrongly; no user was given such an answer.",
    )


def _burn(watched: Watched) -> dict[str, Any]:
    budget = 1 - watched.availability_percent / 100
    fast = " or ".join(
        " and ".join(
            f"{_record(watched, f'requests_failed:ratio{window}')} > {factor * budget:.6g}" for window in (short, long)
        )
        for short, long, factor in BURNS
    )
    return _alert(
        watched,
        "TandemBurnRate",
        f"({fast}) and {_record(watched, 'requests:increase1h')} >= {TELLING_REQUESTS}",
        severity="page",
        says=f"Site {watched.site} fails so many requests that the promise of {watched.availability_percent:g} % of a"
        " month will not be kept.",
    )


def _lag(watched: Watched) -> dict[str, Any]:
    # That nobody tells is an answer too: a copy that is not watched may be missing for months.
    return _alert(
        watched,
        "TandemReplicationLag",
        f"{_record(watched, 'replication_lag_seconds')} > {watched.replication_lag_seconds}"
        f" or absent_over_time({_record(watched, 'replication_lag_seconds')}[{SILENT_WINDOW}])",
        lasting="5m",
        severity="ticket",
        says=f"Copies of what site {watched.site} stores are more than {watched.replication_lag_seconds} s behind, or"
        " nobody tells.",
    )


def _queue(watched: Watched) -> dict[str, Any]:
    queue = _record(watched, "queue_per_pod")
    return _alert(
        watched,
        "TandemQueueGrowth",
        f"avg_over_time({queue}[5m]) > {watched.queue_per_pod} and deriv({queue}[10m]) > 0",
        lasting="5m",
        severity="ticket",
        says=f"More than {watched.queue_per_pod} requests wait for each model server of site {watched.site}, and they"
        " become more.",
    )


def _headroom(watched: Watched) -> dict[str, Any]:
    capacity = _record(watched, "capacity_requests_per_second")
    return _alert(
        watched,
        "TandemHeadroomLost",
        f"{capacity} < {watched.requests_per_second:g}"
        f" or {_record(watched, 'requests:rate5m')} > {FULL_SHARE:g} * {capacity}"
        f" or {_record(watched, 'shed:rate5m')} > 0",
        lasting="10m",
        severity="ticket",
        says=f"Site {watched.site} has fewer pods than declared, is nearly full or turns requests away: it could not"
        " take another site's users.",
    )


def _certificate(watched: Watched) -> dict[str, Any]:
    own = f'namespace="{watched.namespace}",name="{watched.certificate}"'
    return _alert(
        watched,
        "TandemCertificateEnds",
        f"min({EXPIRY}{{{own}}}) - time() < {CERTIFICATE_DAYS} * 86400",
        lasting="1h",
        severity="page",
        says=f"The certificate of site {watched.site} was not renewed; no health check looks at it.",
    )


def _alert(
    watched: Watched, name: str, expression: str, *, severity: str, says: str, lasting: str = ""
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        **({"for": lasting} if lasting else {}),
        "labels": {"severity": severity, "site": watched.site},
        "annotations": {"summary": says, "runbook": f"{RUNBOOK}#{name.lower()}"},
    }
