"""`platform-<site>`: what the site's cluster needs before anything is served."""

from __future__ import annotations

from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import ResourceOptions

from infra.lease import Lease, LeaseArgs
from infra.platform import GPU_RESOURCE, Platform, PlatformArgs
from infra.settings import PlatformSettings
from stacks import contract
from stacks.references import Recorded


def declare(stack: contract.StackName, settings: PlatformSettings) -> dict[str, Any]:
    """Namespace, quota, priority, GPU plugin and the rights of a drill's undo in the cluster of `pool-<site>`."""
    pool = Recorded(stack.sibling("pool"))
    opts = ResourceOptions(provider=kubernetes.Provider("cluster", kubeconfig=pool.filled("kubeconfig")))
    platform = Platform(
        settings.site,
        PlatformArgs(
            site=settings.site,
            namespace=settings.namespace,
            device_plugin_image=settings.device_plugin_image,
            gpu_quota=settings.gpu_quota,
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
        "priority_class": platform.priority_class,
        "gpu_resource": GPU_RESOURCE,
        "environment": stack.env,
        "lease_account": lease.account,
        "lease_image": settings.lease_image,
    }
