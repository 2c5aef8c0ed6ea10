"""The GPU nodes of a private site: machines that Cluster API makes on Metal3, pool by pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.settings_pool import MachinePool

CAPI: Final = "cluster.x-k8s.io/v1beta1"
CAPACITY: Final = "capacity.cluster-autoscaler.kubernetes.io"
"""Annotations that tell the autoscaler what a machine of an empty pool would bring
(https://github.com/kubernetes/autoscaler/tree/master/cluster-autoscaler/cloudprovider/clusterapi)."""
AUTOSCALER: Final = "cluster.x-k8s.io/cluster-api-autoscaler-node-group"
GPU_TAINT: Final = "nvidia.com/gpu=present:NoSchedule"
POOL_LABEL: Final = "node.cluster.x-k8s.io/pool"
"""Label of a pool's nodes; Cluster API copies labels of this domain from a machine to its node
(https://cluster-api.sigs.k8s.io/reference/api/metadata-propagation)."""
AT_ONCE_PERCENT: Final = 40
UNHEALTHY_SECONDS: Final = 300


@dataclass(frozen=True, kw_only=True)
class PrivatePoolArgs:
    """The cluster the machines join, and its pools."""

    cluster_name: str
    namespace: str
    kubernetes_version: str
    pools: tuple[MachinePool, ...]
    labels: dict[str, str] = field(default_factory=dict)


def capacity(pool: MachinePool, labels: dict[str, str]) -> dict[str, str]:
    """Annotations with what one machine of the pool brings and, where an autoscaler may move it, with its bounds."""
    bounds = {f"{AUTOSCALER}-min-size": str(pool.min), f"{AUTOSCALER}-max-size": str(pool.max)}
    return {
        # Without bounds the autoscaler leaves the pool alone, so it has none where the declared number is to hold.
        **(bounds if pool.autoscaled else {}),
        f"{CAPACITY}/cpu": str(pool.cpu),
        f"{CAPACITY}/memory": f"{pool.memory_gib}Gi",
        f"{CAPACITY}/gpu-type": pool.gpu_type,
        f"{CAPACITY}/gpu-count": str(pool.gpu_count),
        f"{CAPACITY}/labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        f"{CAPACITY}/taints": GPU_TAINT,
    }


def remediation_limit(pool: MachinePool) -> int | str:
    """Machines of the pool that may be ill while one is still replaced: two in five, at least one of two or more.

    More of them ill at once means that the network or the control plane is ill, and replacing machines makes it worse.
    A lone machine is never replaced: when it is silent, nobody can tell it from a cut. Where the autoscaler moves the
    number the limit is a share, which Cluster API rounds down: two machines out of five, none of two.
    """
    if pool.autoscaled:
        return f"{AT_ONCE_PERCENT}%"
    return 0 if pool.desired < 2 else max(1, pool.desired * AT_ONCE_PERCENT // 100)


class PrivatePool(pulumi.ComponentResource):
    """GPU machines that are replaced when one dies, and left alone when many seem to."""

    cluster_name: Output[str]

    def __init__(self, name: str, args: PrivatePoolArgs, opts: ResourceOptions | None = None) -> None:
        """`opts` carries the provider of the management cluster."""
        super().__init__("tandem:private_pool:PrivatePool", name, {}, opts)
        machines = [self._pool(f"{name}-{pool.name}", args, pool) for pool in args.pools]
        # Known only once the machines are declared: what reads it waits for them.
        self.cluster_name = Output.all(*(each.id for each in machines)).apply(lambda _: args.cluster_name)
        self.register_outputs({"cluster_name": self.cluster_name})

    def _pool(self, name: str, args: PrivatePoolArgs, pool: MachinePool) -> CustomResource:
        child = ResourceOptions(parent=self)
        called = f"{args.cluster_name}-{pool.name}"
        node_labels = {**pool.labels, POOL_LABEL: pool.name}
        selector = {"cluster.x-k8s.io/cluster-name": args.cluster_name, "cluster.x-k8s.io/deployment-name": called}
        deployment = CustomResource(
            name,
            api_version=CAPI,
            kind="MachineDeployment",
            metadata=ObjectMetaArgs(
                name=called,
                namespace=args.namespace,
                labels=args.labels,
                annotations=capacity(pool, node_labels),
            ),
            spec={
                "clusterName": args.cluster_name,
                "replicas": pool.desired,
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {"labels": {**args.labels, **node_labels, **selector}},
                    "spec": _machine(args, pool),
                },
            },
            # The number belongs to the autoscaler then: an up that set it would end machines that carry load.
            opts=ResourceOptions.merge(child, ResourceOptions(ignore_changes=["spec.replicas"]))
            if pool.autoscaled
            else child,
        )
        CustomResource(
            f"{name}-health",
            api_version=CAPI,
            kind="MachineHealthCheck",
            metadata=ObjectMetaArgs(name=called, namespace=args.namespace, labels=args.labels),
            spec=_health(args, pool, selector),
            opts=child,
        )
        return deployment


def _machine(args: PrivatePoolArgs, pool: MachinePool) -> dict[str, Any]:
    return {
        "clusterName": args.cluster_name,
        "version": f"v{args.kubernetes_version}",
        "bootstrap": {
            "configRef": {
                "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta1",
                "kind": "KubeadmConfigTemplate",
                "name": pool.bootstrap_template,
            }
        },
        "infrastructureRef": {
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
            "kind": "Metal3MachineTemplate",
            "name": pool.machine_template,
        },
    }


def _health(args: PrivatePoolArgs, pool: MachinePool, selector: dict[str, str]) -> dict[str, Any]:
    """When a machine counts as ill (https://cluster-api.sigs.k8s.io/tasks/automated-machine-management/healthchecking)."""
    check: dict[str, Any] = {
        "clusterName": args.cluster_name,
        "selector": {"matchLabels": selector},
        "maxUnhealthy": remediation_limit(pool),
        "nodeStartupTimeout": f"{pool.node_startup_minutes}m",
        "unhealthyConditions": [
            {"type": "Ready", "status": status, "timeout": f"{UNHEALTHY_SECONDS}s"} for status in ("False", "Unknown")
        ],
    }
    if pool.remediation_template:
        check["remediationTemplate"] = {
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
            "kind": "Metal3RemediationTemplate",
            "name": pool.remediation_template,
            "namespace": args.namespace,
        }
    return check
