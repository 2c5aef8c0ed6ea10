"""`platform-<site>`: what the site's cluster needs before anything is served."""

from __future__ import annotations

from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import ResourceOptions

from infra.platform import GPU_RESOURCE, Platform, PlatformArgs
from infra.settings import PlatformSettings
from stacks import contract
from stacks.references import Recorded


def declare(stack: contract.StackName, settings: PlatformSettings) -> dict[str, Any]:
    """Namespace, quota, priority and GPU plugin in the cluster of `pool-<site>`."""
    pool = Recorded(stack.sibling("pool"))
    cluster = kubernetes.Provider("cluster", kubeconfig=pool.filled("kubeconfig"))
    platform = Platform(
        settings.site,
        PlatformArgs(
            site=settings.site,
            namespace=settings.namespace,
            device_plugin_image=settings.device_plugin_image,
            gpu_quota=settings.gpu_quota,
        ),
        ResourceOptions(provider=cluster),
    )
    return {
        "site": settings.site,
        "namespace": platform.namespace,
        "priority_class": platform.priority_class,
        "gpu_resource": GPU_RESOURCE,
    }
