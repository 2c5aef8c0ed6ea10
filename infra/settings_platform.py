"""The settings of `platform-<site>`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

from infra import chart, checks, naming
from infra.alert_receivers import AlertReceivers
from infra.checks import SettingError
from infra.settings_base import KINDS, PRIVATE, PUBLIC, Settings

OPERATOR: Final = "operator"
DEVICE_PLUGIN: Final = "device-plugin"
GPU_STACKS: Final = (OPERATOR, DEVICE_PLUGIN)
NODE: Final = "node"
DRIVERS: Final = ("", NODE, OPERATOR)


@dataclass(frozen=True, kw_only=True)
class PlatformSettings(Settings):
    """`platform-<site>`."""

    layer: ClassVar[str] = "platform"

    site: str
    kind: str
    namespace: str = "tandem"
    gpu_stack: str = OPERATOR
    """Who has nodes offer their GPUs: NVIDIA's operator, or its device plugin alone."""
    gpu_driver: str = ""
    """Who brings the driver: operator or node; empty for the operator on a private site, the image on a public one."""
    device_plugin_image: str = ""
    gpu_quota: int = 2
    """GPUs the namespace may request in all."""
    quota_cpu: str = "64"
    quota_memory: str = "256Gi"
    quota_pods: int = 100
    charts_elsewhere: tuple[str, ...] = ()
    """Charts of this kind of site that somebody else keeps in the cluster."""
    chart_versions: dict[str, str] = field(default_factory=dict)
    """Chart to version, in the place of the one that is pinned in infra/charts.py."""
    monitoring_namespace: str = "monitoring"
    """Where Prometheus runs: it alone may read the pods' metrics."""
    copies_watched: bool = False
    """Whether the cluster gets an exporter that tells how far S3's copies of this site lag."""
    alert_secret: str = ""
    """Secret of that namespace, made by somebody else, with what only Alertmanager may know."""
    alert_webhooks: tuple[str, ...] = ()
    """Keys of it, each with one URL that alerts are sent to."""
    alert_mail_to: tuple[str, ...] = ()
    alert_mail_from: str = ""
    alert_mail_server: str = ""
    """host:port of a mail server that speaks STARTTLS."""
    alert_mail_user: str = ""
    """Who logs in there, with the password under `smtp-password` in alert_secret; empty for nobody."""
    lease_image: str
    """What a drill's undo runs in."""
    machines_in_cluster: bool = False
    """Whether this cluster also holds the switches of its own machines, so that a drill's undo may use them."""

    def __post_init__(self) -> None:
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.label("namespace", self.namespace)
        checks.one_of("kind", self.kind, KINDS)
        checks.image("lease_image", self.lease_image)
        checks.between("gpu_quota", self.gpu_quota, 0, 10_000)
        checks.quantities("quota", self.quota_cpu, self.quota_memory)
        checks.between("quota_pods", self.quota_pods, 1, 10_000)
        checks.label("monitoring_namespace", self.monitoring_namespace)
        self._check_gpus()
        self.alerts.check()
        if self.alerts and chart.PROMETHEUS in self.charts_elsewhere:
            raise SettingError(
                f"alert receivers are set and charts_elsewhere has {chart.PROMETHEUS}; who keeps that chart says whom"
                " it tells: leave one of the two out"
            )
        if self.copies_watched and not self.public:
            raise SettingError(
                f"copies_watched is true and kind is {self.kind}; no identity of a private site's pods opens"
                " CloudWatch: remove it, and name the metric of whatever watches the copies in replication_lag_metric"
            )
        known = chart.names(
            public=self.public, gpu_operator=self.gpu_stack == OPERATOR, copies_watched=self.copies_watched
        )
        chart.check_names("charts_elsewhere", self.charts_elsewhere, known)
        chart.check_names("chart_versions", self.chart_versions, known)
        for name, version in self.chart_versions.items():
            chart.check_version(f"chart_versions.{name}", version)

    @property
    def alerts(self) -> AlertReceivers:
        """Whom the site's Prometheus tells."""
        return AlertReceivers(
            secret=self.alert_secret,
            webhooks=self.alert_webhooks,
            mail_to=self.alert_mail_to,
            mail_from=self.alert_mail_from,
            mail_server=self.alert_mail_server,
            mail_user=self.alert_mail_user,
        )

    @property
    def public(self) -> bool:
        """Whether the cluster is a cloud's."""
        return self.kind == PUBLIC

    @property
    def installs_driver(self) -> bool:
        """Whether the operator puts the driver on the nodes."""
        return (self.gpu_driver or (OPERATOR if self.kind == PRIVATE else NODE)) == OPERATOR

    def _check_gpus(self) -> None:
        checks.one_of("gpu_stack", self.gpu_stack, GPU_STACKS)
        checks.one_of("gpu_driver", self.gpu_driver, DRIVERS)
        if self.gpu_stack == DEVICE_PLUGIN:
            checks.image("device_plugin_image", self.device_plugin_image)
            if self.gpu_driver == OPERATOR:
                raise SettingError(
                    f"gpu_driver is {OPERATOR} with gpu_stack {DEVICE_PLUGIN}; a device plugin installs no driver: set"
                    f" gpu_stack to {OPERATOR}, or gpu_driver to {NODE}"
                )
        elif self.device_plugin_image:
            raise SettingError(
                f"device_plugin_image is {self.device_plugin_image} with gpu_stack {OPERATOR}; the operator brings a"
                f" plugin of its own and two would offer each GPU twice: remove it, or set gpu_stack to {DEVICE_PLUGIN}"
            )
