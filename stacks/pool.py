"""`pool-<site>`: the cluster, its GPU nodes and the address traffic enters at."""

from __future__ import annotations

import json
from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import Output, ResourceOptions

from infra import naming
from infra.edge import Edge, EdgeArgs
from infra.gateway import READY_PATH
from infra.network import Network, NetworkArgs
from infra.private_pool import PrivatePool, PrivatePoolArgs
from infra.public_pool import PublicPool, PublicPoolArgs
from infra.settings import PrivatePoolSettings, PublicPoolSettings
from stacks import contract, providers


def declare(stack: contract.StackName, settings: PrivatePoolSettings | PublicPoolSettings) -> dict[str, Any]:
    """The pool of the site's kind; what it exports is the same for both."""
    by_kind = _private(settings) if isinstance(settings, PrivatePoolSettings) else _public(stack, settings)
    return {
        "site": settings.site,
        "kind": settings.kind,
        "node_grace_seconds": settings.node_grace_seconds,
        **by_kind,
    }


def _private(settings: PrivatePoolSettings) -> dict[str, Any]:
    # Two providers even where both kubeconfigs name one cluster: which of them holds the machines is a setting.
    management = kubernetes.Provider(
        "management", kubeconfig=Output.secret(json.dumps(settings.management_kubeconfig, sort_keys=True))
    )
    kubeconfig = json.dumps(settings.kubeconfig, sort_keys=True)
    workload = kubernetes.Provider("workload", kubeconfig=kubeconfig)
    pool = PrivatePool(
        settings.site,
        PrivatePoolArgs(
            cluster_name=settings.cluster_name,
            namespace=settings.management_namespace,
            kubernetes_version=settings.kubernetes_version,
            machine_template=settings.machine_template,
            bootstrap_template=settings.bootstrap_template,
            gpu_nodes=settings.gpu_nodes,
            gpu_nodes_min=settings.gpu_nodes_min,
            gpu_nodes_max=settings.gpu_nodes_max,
            gpu_type=settings.gpu_type,
            gpu_count=settings.gpu_count,
            cpu=settings.cpu,
            memory_gib=settings.memory_gib,
            edge_address=settings.edge_address,
            load_balancer_namespace=settings.load_balancer_namespace,
            labels=naming.labels(settings.site, "pool"),
        ),
        workload,
        ResourceOptions(provider=management),
    )
    return {
        "cluster_name": pool.cluster_name,
        "kubeconfig": kubeconfig,
        "edge_address": pool.edge_address,
        "edge_dns_name": "",
        "edge_zone_id": "",
        "edge_target_group_arn": "",
        "machine_namespace": settings.management_namespace,
    }


def _public(stack: contract.StackName, settings: PublicPoolSettings) -> dict[str, Any]:
    opts = ResourceOptions(provider=providers.cloud(stack, settings))
    tags = naming.tags(settings.site)
    network = Network(settings.site, NetworkArgs(cidr=settings.vpc_cidr, zones=settings.zones, tags=tags), opts)
    edge = Edge(
        f"{settings.site}-edge",
        EdgeArgs(
            vpc_id=network.vpc_id,
            subnet_ids=network.public_subnet_ids,
            port=settings.edge_port,
            target_port=settings.gateway_port,
            health_path=READY_PATH,
            network=network.ready,
            protect=settings.protect,
            tags=tags,
        ),
        opts,
    )
    pool = PublicPool(
        settings.site,
        PublicPoolArgs(
            cluster_name=settings.cluster_name,
            kubernetes_version=settings.kubernetes_version,
            region=settings.region,
            subnet_ids=network.private_subnet_ids,
            system_instance_type=settings.system_instance_type,
            system_nodes=settings.system_nodes,
            gpu_instance_types=settings.gpu_instance_types,
            gpu_nodes=settings.gpu_nodes,
            gpu_nodes_min=settings.gpu_nodes_min,
            gpu_nodes_max=settings.gpu_nodes_max,
            gpu_disk_gib=settings.gpu_disk_gib,
            api_allowed_cidrs=settings.api_allowed_cidrs,
            exec_authentication=settings.cluster_authentication == "aws-cli",
            network=network.ready,
            protect=settings.protect,
            node_labels={naming.SITE_KEY: settings.site},
            tags=tags,
        ),
        opts,
    )
    return {
        "cluster_name": pool.cluster_name,
        "kubeconfig": pool.kubeconfig,
        "edge_address": edge.address,
        "edge_dns_name": edge.dns_name,
        "edge_zone_id": edge.zone_id,
        "edge_target_group_arn": edge.target_group_arn,
        "machine_namespace": "",
    }
