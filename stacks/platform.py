"""`platform-<site>`: what the site's cluster needs before anything is served."""

from __future__ import annotations

from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import ResourceOptions

from infra import chart, lag_exporter
from infra.charts import Charts
from infra.lease import Lease, LeaseArgs
from infra.platform import GPU_RESOURCE, Platform, PlatformArgs
from infra.settings import PlatformSettings
from infra.settings_platform import OPERATOR
from stacks import contract
from stacks.references import Recorded


def declare(stack: contract.StackName, settings: PlatformSettings) -> dict[str, Any]:
    """Namespace, quota, priority, GPU plugin and the rights of a drill's undo in the cluster of `pool-<site>`."""
    pool = Recorded(stack.sibling("pool"))
    opts = ResourceOptions(provider=kubernetes.Provider("cluster", kubeconfig=pool.filled("kubeconfig")))
    Charts("charts", settings.site, _charts(stack, pool, settings), opts)
    platform = Platform(
        settings.site,
        PlatformArgs(
            site=settings.site,
            namespace=settings.namespace,
            device_plugin_image=settings.device_plugin_image,
            gpu_quota=settings.gpu_quota,
            quota_cpu=settings.quota_cpu,
            quota_memory=settings.quota_memory,
            quota_pods=settings.quota_pods,
            namespace_labels={contract.ENVIRONMENT_LABEL: stack.env},
        ),
        opts,
    )
    lease = Lease(
        settings.site,
        LeaseArgs(
            site=settings.site,
            namespace=platform.namespace,
            machine_namespace=pool.filled("machine_namespace") if settings.machines_in_cluster else None,
        ),
        opts,
    )
    return {
        "site": settings.site,
        "namespace": platform.namespace,
        "gpu_quota": settings.gpu_quota,
        "monitoring_namespace": settings.monitoring_namespace,
        "priority_class": platform.priority_class,
        "gpu_resource": GPU_RESOURCE,
        "environment": stack.env,
        "lease_account": lease.account,
        "lease_image": settings.lease_image,
    }


def _charts(stack: contract.StackName, pool: Recorded, settings: PlatformSettings) -> tuple[chart.Chart, ...]:
    """What this kind of site needs and nobody else keeps in its cluster."""
    configuration = None
    if settings.copies_watched:
        storage = Recorded(stack.sibling("storage"))
        configuration = storage.listed("replication_rules").apply(lag_exporter.configuration)
    needed = chart.needed(
        public=settings.public,
        gpu_operator=settings.gpu_stack == OPERATOR,
        driver=settings.installs_driver,
        monitoring_namespace=settings.monitoring_namespace,
        cluster_name=pool.filled("cluster_name"),
        region=pool.text("region"),
        vpc_id=pool.text("vpc_id"),
        alerts=settings.alerts,
        lag_configuration=configuration,
    )
    return chart.chosen(needed, settings.charts_elsewhere, settings.chart_versions)
