"""What Prometheus reads of a site, what it makes of it, and what Grafana shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import ConfigMap
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import alerts, chart, dashboard, gateway, lag_exporter, naming, triton
from infra.alerts import Watched

API_VERSION: Final = "monitoring.coreos.com/v1"
NAME: Final = "monitoring"
SCRAPE_INTERVAL: Final = "15s"
DASHBOARD_LABEL: Final = {"grafana_dashboard": "1"}
"""What Grafana's sidecar looks for."""
JOB_LABEL: Final = naming.NAME_KEY


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """Which site, and how its gateways are asked."""

    site: str
    namespace: Input[str]
    protocol: str
    """http or https; also what the port of the gateways' Service is called."""
    watched: Input[Watched]
    """The site as its rules see it."""
    own_certificate: bool
    """Whether cert-manager keeps the gateways' certificate, and has to be asked how long it lasts."""
    copies_watched: bool = False
    """Whether the cluster has the exporter that tells how far S3's copies lag."""


class Monitoring(pulumi.ComponentResource):
    """Gateways and model servers are heard, and what breaks a promise of the site is told to somebody."""

    def __init__(self, name: str, args: MonitoringArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:monitoring:Monitoring", name, {}, opts)
        self._name, self._args = name, args
        self._custom("gateway", "ServiceMonitor", gateway.NAME, self._gateways())
        self._custom("triton", "PodMonitor", triton.NAME, self._servers())
        if args.own_certificate:
            self._custom("certificates", "PodMonitor", chart.CERT_MANAGER, self._certificates())
        if args.copies_watched:
            self._custom("copies", "ServiceMonitor", lag_exporter.NAME, self._copies())
        watched: Output[Watched] = Output.from_input(args.watched)
        self._custom("rules", "PrometheusRule", naming.PROJECT, {"groups": watched.apply(alerts.groups)})
        ConfigMap(
            f"{name}-dashboard",
            metadata=self._metadata("tandem-dashboard", DASHBOARD_LABEL),
            data={f"tandem-{args.site}.json": watched.apply(dashboard.document)},
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})

    def _gateways(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"port": self._args.protocol, "path": "/metrics", "interval": SCRAPE_INTERVAL}
        if self._args.protocol == "https":
            # Asked by its address, which is in no certificate; whom it belongs to, the cluster's network tells.
            asked |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
        return {"jobLabel": JOB_LABEL, **_selects(naming.selector(gateway.NAME)), "endpoints": [asked]}

    def _servers(self) -> dict[str, Any]:
        # Their Service has no port for it: only the gateways and the monitoring know these pods.
        asked = {
            "port": "metrics",
            "path": "/metrics",
            "interval": SCRAPE_INTERVAL,
            "relabelings": [{"targetLabel": "site", "replacement": self._args.site}],
        }
        return {"jobLabel": JOB_LABEL, **_selects(naming.selector(triton.NAME)), "podMetricsEndpoints": [asked]}

    def _certificates(self) -> dict[str, Any]:
        # Its metrics name the namespace of a certificate, which is not that of the pod that tells.
        asked = {"port": "http-metrics", "path": "/metrics", "interval": "60s", "honorLabels": True}
        pods = {naming.NAME_KEY: chart.CERT_MANAGER, "app.kubernetes.io/component": "controller"}
        return {
            "namespaceSelector": {"matchNames": [chart.CERT_MANAGER]},
            **_selects(pods),
            "podMetricsEndpoints": [asked],
        }

    def _copies(self) -> dict[str, Any]:
        asked = {"port": lag_exporter.PORT, "path": "/metrics", "interval": lag_exporter.SCRAPE_INTERVAL}
        return {
            "jobLabel": JOB_LABEL,
            "namespaceSelector": {"matchNames": [lag_exporter.NAME]},
            **_selects({naming.NAME_KEY: lag_exporter.NAME}),
            "endpoints": [asked],
        }

    def _metadata(self, called: str, labels: dict[str, str] | None = None) -> ObjectMetaArgs:
        return ObjectMetaArgs(
            name=called,
            namespace=self._args.namespace,
            labels={**naming.labels(self._args.site, NAME), **(labels or {})},
        )

    def _custom(self, role: str, kind: str, called: str, spec: dict[str, Any]) -> CustomResource:
        return CustomResource(
            f"{self._name}-{role}",
            api_version=API_VERSION,
            kind=kind,
            metadata=self._metadata(called),
            spec=spec,
            opts=ResourceOptions(parent=self),
        )


def _selects(labels: dict[str, str]) -> dict[str, Any]:
    return {"selector": {"matchLabels": labels}}
