"""The GPU nodes of a private site, as Cluster API machines, and the address its traffic enters at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi import Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

CAPI: Final = "cluster.x-k8s.io/v1beta1"
CAPACITY: Final = "capacity.cluster-autoscaler.kubernetes.io"
"""Annotations that tell the autoscaler what a machine of an empty pool would bring
(https://github.com/kubernetes/autoscaler/tree/master/cluster-autoscaler/cloudprovider/clusterapi)."""
AUTOSCALER: Final = "cluster.x-k8s.io/cluster-api-autoscaler-node-group"
GPU_TAINT: Final = "nvidia.com/gpu=present:NoSchedule"


@dataclass(frozen=True, kw_only=True)
class PrivatePoolArgs:
    """The cluster the machines join, what one machine brings and how many there are."""

    cluster_name: str
    namespace: str
    kubernetes_version: str
    machine_template: str
    bootstrap_template: str
    gpu_nodes: int
    gpu_nodes_min: int
    gpu_nodes_max: int
    gpu_type: str
    gpu_count: int
    cpu: int
    memory_gib: int
    edge_address: str
    load_balancer_namespace: str
    labels: dict[str, str] = field(default_factory=dict)


def capacity(args: PrivatePoolArgs) -> dict[str, str]:
    """Annotations with the bounds of the pool and with what one machine of it brings."""
    return {
        f"{AUTOSCALER}-min-size": str(args.gpu_nodes_min),
        f"{AUTOSCALER}-max-size": str(args.gpu_nodes_max),
        f"{CAPACITY}/cpu": str(args.cpu),
        f"{CAPACITY}/memory": f"{args.memory_gib}Gi",
        f"{CAPACITY}/gpu-type": args.gpu_type,
        f"{CAPACITY}/gpu-count": str(args.gpu_count),
        f"{CAPACITY}/labels": ",".join(f"{key}={value}" for key, value in sorted(args.labels.items())),
        f"{CAPACITY}/taints": GPU_TAINT,
    }


def remediation_limit(nodes: int) -> int:
    """Machines that may be replaced at a time: two in five, at least one.

    More of them ill at once means that the network or the control plane is ill, and replacing machines makes it worse.
    """
    return max(1, nodes * 2 // 5)


class PrivatePool(pulumi.ComponentResource):
    """GPU machines that are replaced when one dies, and left alone when many seem to."""

    cluster_name: Output[str]
    edge_address: Output[str]

    def __init__(
        self,
        name: str,
        args: PrivatePoolArgs,
        workload: kubernetes.Provider,
        opts: ResourceOptions | None = None,
    ) -> None:
        """`opts` carries the provider of the management cluster; `workload` is the one the machines join."""
        super().__init__("tandem:private_pool:PrivatePool", name, {}, opts)
        child = ResourceOptions(parent=self)
        machines = CustomResource(
            f"{name}-gpu",
            api_version=CAPI,
            kind="MachineDeployment",
            metadata=ObjectMetaArgs(
                name=f"{args.cluster_name}-gpu",
                namespace=args.namespace,
                labels=args.labels,
                annotations=capacity(args),
            ),
            spec=self._machines(args),
            opts=child,
        )
        CustomResource(
            f"{name}-gpu-health",
            api_version=CAPI,
            kind="MachineHealthCheck",
            metadata=ObjectMetaArgs(name=f"{args.cluster_name}-gpu", namespace=args.namespace, labels=args.labels),
            spec={
                "clusterName": args.cluster_name,
                "selector": {"matchLabels": _selector(args)},
                "maxUnhealthy": remediation_limit(args.gpu_nodes),
                "nodeStartupTimeout": "20m",
                "unhealthyConditions": [
                    {"type": "Ready", "status": status, "timeout": "300s"} for status in ("False", "Unknown")
                ],
            },
            opts=child,
        )
        at_workload = ResourceOptions.merge(child, ResourceOptions(provider=workload))
        pool = CustomResource(
            f"{name}-edge",
            api_version="metallb.io/v1beta1",
            kind="IPAddressPool",
            metadata=ObjectMetaArgs(name="tandem-edge", namespace=args.load_balancer_namespace, labels=args.labels),
            # Only the Service that asks for the address by name gets it.
            spec={"addresses": [f"{args.edge_address}/32"], "autoAssign": False},
            opts=at_workload,
        )
        CustomResource(
            f"{name}-edge-announcement",
            api_version="metallb.io/v1beta1",
            kind="L2Advertisement",
            metadata=ObjectMetaArgs(name="tandem-edge", namespace=args.load_balancer_namespace, labels=args.labels),
            spec={"ipAddressPools": ["tandem-edge"]},
            opts=ResourceOptions.merge(at_workload, ResourceOptions(depends_on=[pool])),
        )
        # Known only once the machines and the address are declared: what reads them waits for both.
        self.cluster_name = machines.id.apply(lambda _: args.cluster_name)
        self.edge_address = pool.id.apply(lambda _: args.edge_address)
        self.register_outputs({"cluster_name": self.cluster_name, "edge_address": self.edge_address})

    def _machines(self, args: PrivatePoolArgs) -> dict[str, Any]:
        return {
            "clusterName": args.cluster_name,
            "replicas": args.gpu_nodes,
            "selector": {"matchLabels": _selector(args)},
            "template": {
                "metadata": {"labels": {**args.labels, **_selector(args)}},
                "spec": {
                    "clusterName": args.cluster_name,
                    "version": f"v{args.kubernetes_version}",
                    "bootstrap": {
                        "configRef": {
                            "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta1",
                            "kind": "KubeadmConfigTemplate",
                            "name": args.bootstrap_template,
                        }
                    },
                    "infrastructureRef": {
                        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
                        "kind": "Metal3MachineTemplate",
                        "name": args.machine_template,
                    },
                },
            },
        }


def _selector(args: PrivatePoolArgs) -> dict[str, str]:
    return {
        "cluster.x-k8s.io/cluster-name": args.cluster_name,
        "cluster.x-k8s.io/deployment-name": f"{args.cluster_name}-gpu",
    }
