"""`pool-<site>`: the cluster, its GPU nodes and the address traffic enters at."""

from __future__ import annotations

import json
from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import Output, ResourceOptions

from infra import access, lag_exporter, naming
from infra.adopted_pool import AdoptedNodes, AdoptedNodesArgs
from infra.bucket_policy import arn
from infra.edge import Edge, EdgeArgs
from infra.gateway import NAME as GATEWAY
from infra.gateway import READY_PATH
from infra.identity import PodIdentity, PodIdentityArgs, bind_targets
from infra.lease import NAME as LEASE
from infra.network import ExistingNetwork, Network, NetworkArgs
from infra.private_edge import PrivateEdge, PrivateEdgeArgs
from infra.private_pool import PrivatePool, PrivatePoolArgs
from infra.public_pool import PublicPool, PublicPoolArgs
from infra.settings import PrivatePoolSettings, PublicPoolSettings
from infra.settings_pool import MACHINES
from infra.triton import NAME as TRITON
from stacks import contract, providers
from stacks.references import Recorded

CONTROLLER = ("kube-system", "aws-load-balancer-controller")
"""Namespace and service account of the controller that binds gateways to the edge."""


def declare(stack: contract.StackName, settings: PrivatePoolSettings | PublicPoolSettings) -> dict[str, Any]:
    """The pool of the site's kind; what it exports is the same for both."""
    by_kind = _private(settings) if isinstance(settings, PrivatePoolSettings) else _public(stack, settings)
    return {
        "site": settings.site,
        "kind": settings.kind,
        "node_grace_seconds": settings.node_grace_seconds,
        # What only an edge that is an address has to say.
        "edge_annotations": {},
        "edge_traffic_policy": "",
        "edge_node_port": 0,
        # What only a cloud's balancer and network have.
        "edge_deregistration_seconds": 0,
        "region": "",
        "vpc_id": "",
        **by_kind,
    }


def _private(settings: PrivatePoolSettings) -> dict[str, Any]:
    kubeconfig = json.dumps(settings.kubeconfig, sort_keys=True)
    workload = ResourceOptions(provider=kubernetes.Provider("workload", kubeconfig=kubeconfig))
    labels = naming.labels(settings.site, "pool")
    edge = PrivateEdge(
        f"{settings.site}-edge",
        PrivateEdgeArgs(
            mode=settings.edge_mode,
            address=settings.edge_address,
            public_address=settings.public_address,
            service_labels=naming.selector(GATEWAY),
            namespace=settings.load_balancer_namespace,
            interfaces=settings.edge_interfaces,
            labels=labels,
        ),
        workload,
    )
    machines = settings.pool_mode == MACHINES
    return {
        "cluster_name": _machines(settings, labels) if machines else _adopted(settings, workload),
        "kubeconfig": kubeconfig,
        "edge_address": edge.address,
        "edge_dns_name": "",
        "edge_zone_id": "",
        "edge_target_group_arn": "",
        "edge_annotations": edge.annotations,
        "edge_traffic_policy": edge.traffic_policy,
        "edge_node_port": settings.edge_node_port,
        "firm_gpus": settings.firm_gpus,
        # Machines that something else keeps have a power switch that something else keeps.
        "machine_namespace": settings.management_namespace if machines else "",
    }


def _machines(settings: PrivatePoolSettings, labels: dict[str, str]) -> Output[str]:
    """The cluster's name, once its machines are declared."""
    # A provider of its own even where both kubeconfigs name one cluster: which of them holds the machines is a setting.
    management = kubernetes.Provider(
        "management", kubeconfig=Output.secret(json.dumps(settings.management_kubeconfig, sort_keys=True))
    )
    pool = PrivatePool(
        settings.site,
        PrivatePoolArgs(
            cluster_name=settings.cluster_name,
            namespace=settings.management_namespace,
            kubernetes_version=settings.kubernetes_version,
            pools=settings.gpu_pools,
            labels=labels,
        ),
        ResourceOptions(provider=management),
    )
    return pool.cluster_name


def _adopted(settings: PrivatePoolSettings, workload: ResourceOptions) -> Output[str]:
    """The cluster's name, once its nodes are labelled."""
    nodes = AdoptedNodes(
        settings.site,
        AdoptedNodesArgs(
            cluster_name=settings.cluster_name,
            pools=settings.adopted_pools,
            labels={naming.SITE_KEY: settings.site},
        ),
        workload,
    )
    return nodes.cluster_name


def _public(stack: contract.StackName, settings: PublicPoolSettings) -> dict[str, Any]:
    opts = ResourceOptions(provider=providers.cloud(stack, settings))
    tags = naming.tags(settings.site)
    network = _network(settings, tags, opts)
    edge = Edge(
        f"{settings.site}-edge",
        EdgeArgs(
            vpc_id=network.vpc_id,
            subnet_ids=network.public_subnet_ids,
            port=settings.edge_port,
            target_port=settings.gateway_port,
            health_path=READY_PATH,
            network=network.ready,
            certificate_arn=settings.edge_certificate,
            deregistration_seconds=settings.edge_deregistration_seconds,
            log_bucket=settings.edge_log_bucket,
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
            kubernetes_support=settings.kubernetes_support,
            region=settings.region,
            subnet_ids=network.private_subnet_ids,
            system_instance_type=settings.system_instance_type,
            system_nodes=settings.system_nodes,
            pools=settings.gpu_pools,
            zones=settings.zones,
            access_entries=settings.access_entries,
            creator_is_admin=settings.creator_is_admin,
            addons=settings.addons,
            addons_elsewhere=settings.addons_elsewhere,
            api_allowed_cidrs=settings.api_allowed_cidrs,
            exec_authentication=settings.cluster_authentication == "aws-cli",
            network=network.ready,
            protect=settings.protect,
            deletion_protection=settings.deletion_protection,
            node_labels={naming.SITE_KEY: settings.site},
            tags=tags,
        ),
        opts,
    )
    _identities(stack, settings, pool, edge, opts)
    return {
        "cluster_name": pool.cluster_name,
        "kubeconfig": pool.kubeconfig,
        "edge_address": edge.address,
        "edge_dns_name": edge.dns_name,
        "edge_zone_id": edge.zone_id,
        "edge_target_group_arn": edge.target_group_arn,
        "edge_deregistration_seconds": settings.edge_deregistration_seconds,
        "region": settings.region,
        "vpc_id": network.vpc_id,
        "firm_gpus": settings.firm_gpus,
        "machine_namespace": "",
    }


def _network(settings: PublicPoolSettings, tags: dict[str, str], opts: ResourceOptions) -> Network | ExistingNetwork:
    """The network the settings describe, or the one they name."""
    if settings.vpc_id:
        return ExistingNetwork(settings.vpc_id, settings.public_subnet_ids, settings.private_subnet_ids)
    args = NetworkArgs(
        cidr=settings.vpc_cidr,
        zones=settings.zones,
        region=settings.region,
        flow_log_days=settings.flow_log_days,
        tags=tags,
    )
    return Network(settings.site, args, opts)


def _identities(
    stack: contract.StackName, settings: PublicPoolSettings, pool: PublicPool, edge: Edge, opts: ResourceOptions
) -> None:
    """Who of the cluster's pods may do what in the cloud."""
    storage = Recorded(stack.sibling("storage"))
    models, signals = (storage.filled(bucket).apply(arn) for bucket in ("model_bucket", "signal_bucket"))
    key = storage.text("model_key_arn")
    rights: dict[tuple[str, str], Output[dict[str, Any]]] = {
        (settings.workload_namespace, TRITON): Output.all(models, key).apply(
            lambda known: access.read_models(known[0], known[1], settings.region)
        ),
        (settings.workload_namespace, GATEWAY): Output.all(models, signals, key).apply(
            lambda known: access.answer_users(known[0], known[1], known[2], settings.region)
        ),
        (settings.workload_namespace, LEASE): signals.apply(access.mark_drains),
        CONTROLLER: Output.all(edge.target_group_arn, pool.cluster_name).apply(lambda known: bind_targets(*known)),
    }
    if settings.copies_watched:
        rules = storage.listed("replication_rules")
        rights[(lag_exporter.NAME, lag_exporter.NAME)] = rules.apply(
            lambda known: access.read_lag(lag_exporter.regions(known))
        )
    for (namespace, account), policy in rights.items():
        PodIdentity(
            f"{settings.site}-{account}",
            PodIdentityArgs(
                cluster_name=pool.cluster_name,
                namespace=namespace,
                account=account,
                policy=policy,
                tags=naming.tags(settings.site),
            ),
            opts,
        )
