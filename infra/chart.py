"""The Helm charts a site needs: each from its maker's repository, at one version, and what is set in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pulumi import Input

from infra import lag_exporter
from infra.alert_receivers import AlertReceivers
from infra.checks import SettingError

CERT_MANAGER: Final = "cert-manager"
KEDA: Final = "keda"
PROMETHEUS: Final = "kube-prometheus-stack"
BALANCER: Final = "aws-load-balancer-controller"
GPU_OPERATOR: Final = "gpu-operator"
LAG_EXPORTER: Final = "prometheus-yet-another-cloudwatch-exporter"
KUBE_SYSTEM: Final = "kube-system"
PROMETHEUS_NAME: Final = "kube-prometheus"
"""What the stack's objects are called; its Prometheus is the Service `kube-prometheus-prometheus`, port 9090."""

NOBODY_TOLD: Final = AlertReceivers()

_VERSION = re.compile(r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart, where it is kept, and what is set in it."""

    name: str
    repository: str
    version: str
    namespace: str
    pod_security: str = ""
    """Standard its namespace enforces, which is made for it; empty where the namespace is there already."""
    values: Mapping[str, Any] = field(default_factory=dict)


def needed(
    *,
    public: bool,
    gpu_operator: bool,
    driver: bool,
    monitoring_namespace: str,
    cluster_name: Input[str],
    region: Input[str],
    vpc_id: Input[str],
    alerts: AlertReceivers = NOBODY_TOLD,
    lag_configuration: Input[str] | None = None,
) -> tuple[Chart, ...]:
    """Every chart a site of this kind needs, as pinned here; Kubernetes 1.34 is supported by each of these versions.

    With `lag_configuration`, also the one that tells how far copies lag.
    """
    found = [_cert_manager(), _keda(), _prometheus(monitoring_namespace, alerts)]
    if gpu_operator:
        found.append(_gpu_operator(driver=driver))
    if public:
        found.append(_balancer(cluster_name, region, vpc_id))
    if lag_configuration is not None:
        found.append(_lag_exporter(lag_configuration))
    return tuple(found)


def names(*, public: bool, gpu_operator: bool, copies_watched: bool = False) -> tuple[str, ...]:
    """The names of these charts."""
    extra = ((GPU_OPERATOR, gpu_operator), (BALANCER, public), (LAG_EXPORTER, copies_watched))
    return (CERT_MANAGER, KEDA, PROMETHEUS, *(name for name, wanted in extra if wanted))


def chosen(charts: tuple[Chart, ...], elsewhere: Collection[str], versions: Mapping[str, str]) -> tuple[Chart, ...]:
    """Those nobody else keeps, at the version the settings name where they name one."""
    return tuple(
        replace(chart, version=versions.get(chart.name, chart.version))
        for chart in charts
        if chart.name not in elsewhere
    )


def check_names(key: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise SettingError unless each is a chart that a site of this kind needs."""
    for name in given:
        if name not in known:
            raise SettingError(
                f"{key} names {name!r}; the charts of this kind of site are {', '.join(sorted(known))}: correct or"
                " remove it"
            )


def check_version(key: str, value: str) -> None:
    """Raise SettingError unless `value` names one version and no range."""
    if not _VERSION.fullmatch(value):
        raise SettingError(
            f"{key} is {value!r}; a chart is pinned to one version, with no range or tag: write it like 2.20.2"
        )


def _cert_manager() -> Chart:
    # With the chart's own definitions, and they stay when it goes: certificates would go with them.
    values = {"crds": {"enabled": True, "keep": True}, "replicaCount": 2, "webhook": {"replicaCount": 2}}
    return Chart(
        name=CERT_MANAGER,
        repository="https://charts.jetstack.io",
        version="v1.19.1",
        namespace=CERT_MANAGER,
        pod_security="restricted",
        values=values,
    )


def _keda() -> Chart:
    return Chart(
        name=KEDA,
        repository="https://kedacore.github.io/charts",
        version="2.20.2",
        namespace=KEDA,
        pod_security="restricted",
        values={"operator": {"replicaCount": 2}},
    )


def _prometheus(namespace: str, alerts: AlertReceivers) -> Chart:
    # Whatever declares a monitor, a rule or a dashboard is heard, not only what this chart has labelled.
    every = {f"{kind}SelectorNilUsesHelmValues": False for kind in ("serviceMonitor", "podMonitor", "rule", "probe")}
    values = {
        "fullnameOverride": PROMETHEUS_NAME,
        "prometheus": {"prometheusSpec": {**every, "retention": "15d"}},
        "grafana": {"sidecar": {"dashboards": {"enabled": True, "searchNamespace": "ALL"}}},
        **alerts.values,
    }
    return Chart(
        name=PROMETHEUS,
        repository="https://prometheus-community.github.io/helm-charts",
        version="79.7.1",
        namespace=namespace,
        pod_security="privileged",  # its node exporter reads the host
        values=values,
    )


def _gpu_operator(*, driver: bool) -> Chart:
    # An image that brings the driver brings the container toolkit too.
    values = {
        "driver": {"enabled": driver},
        "toolkit": {"enabled": driver},
        "dcgmExporter": {"serviceMonitor": {"enabled": False}},
    }
    return Chart(
        name=GPU_OPERATOR,
        repository="https://helm.ngc.nvidia.com/nvidia",
        version="v25.10.1",
        namespace=GPU_OPERATOR,
        pod_security="privileged",
        values=values,
    )


def _balancer(cluster_name: Input[str], region: Input[str], vpc_id: Input[str]) -> Chart:
    values = {
        "clusterName": cluster_name,
        # Told, because pods do not reach the instance metadata they would be read from.
        "region": region,
        "vpcId": vpc_id,
        "serviceAccount": {"create": True, "name": BALANCER},
        # The edge is declared: it binds target groups, and makes no balancer for anybody's Service.
        "enableServiceMutatorWebhook": False,
    }
    return Chart(
        name=BALANCER,
        repository="https://aws.github.io/eks-charts",
        version="1.16.0",
        namespace=KUBE_SYSTEM,
        values=values,
    )


def _lag_exporter(configuration: Input[str]) -> Chart:
    # Its image is the one of this version of the chart, v0.67.0.
    return Chart(
        name=LAG_EXPORTER,
        repository="https://prometheus-community.github.io/helm-charts",
        version="0.47.0",
        namespace=lag_exporter.NAME,
        pod_security="restricted",
        values={**lag_exporter.values(), "config": configuration},
    )
