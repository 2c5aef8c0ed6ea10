"""`serving-<site>`: the recommender of a site, from its own store to its own edge."""

from __future__ import annotations

from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import naming
from infra.gateway import Gateway, GatewayArgs, TargetGroup, VirtualAddress
from infra.ingress import Ingress, IngressArgs
from infra.pod import ModelSource
from infra.settings import PRIVATE, ServingSettings
from infra.triton import NAME as TRITON
from infra.triton import Triton, TritonArgs
from stacks import contract
from stacks.references import Recorded


def declare(stack: contract.StackName, settings: ServingSettings) -> dict[str, Any]:
    """Model servers and gateways; of the site's kind, only the edge object knows."""
    storage, pool, platform = (Recorded(stack.sibling(layer)) for layer in ("storage", "pool", "platform"))
    opts = ResourceOptions(provider=kubernetes.Provider("cluster", kubeconfig=pool.filled("kubeconfig")))
    namespace = platform.filled("namespace")
    source = _source(storage, settings, namespace, opts)
    ingress = Ingress(
        "ingress", IngressArgs(site=settings.site, namespace=namespace, gateway_port=settings.gateway_port), opts
    )
    # No pod stands open, not even before its first request.
    guarded = ResourceOptions.merge(opts, ResourceOptions(depends_on=[ingress]))
    triton = Triton(
        TRITON,
        TritonArgs(
            site=settings.site,
            namespace=namespace,
            priority_class=platform.filled("priority_class"),
            image=settings.triton_image,
            model=source,
            digest=settings.model_digest,
            backend=settings.backend,
            replicas=settings.triton_replicas,
            gpus_per_pod=settings.gpus_per_pod,
            rollout_timeout_seconds=settings.rollout_timeout_seconds,
            gpu_resource=platform.filled("gpu_resource"),
            cpu=settings.triton_cpu,
            memory=settings.triton_memory,
        ),
        guarded,
    )
    edge = (
        VirtualAddress(address=pool.filled("edge_address"))
        if settings.kind == PRIVATE
        else TargetGroup(arn=pool.filled("edge_target_group_arn"))
    )
    gateway = Gateway(
        "gateway",
        GatewayArgs(
            site=settings.site,
            namespace=namespace,
            priority_class=platform.filled("priority_class"),
            image=settings.serving_image,
            model=source,
            accepted_digests=tuple(sorted(settings.accepted)),
            backend=settings.backend,
            replicas=settings.gateway_replicas,
            port=settings.gateway_port,
            edge_port=settings.edge_port,
            edge=edge,
            triton_service=TRITON,
            health_token=contract.HEALTH_TOKEN,
            drain_url=Output.concat(storage.filled("signal_url"), "/", contract.drain_key(settings.site)),
            drain_token=contract.DRAIN_TOKEN,
            concurrency_limit=settings.concurrency_limit,
            golden_interval_seconds=settings.golden_interval_seconds,
            hold_down_seconds=settings.hold_down_seconds,
            request_timeout_seconds=settings.inference_timeout_seconds,
            rollout_timeout_seconds=settings.rollout_timeout_seconds,
            gpu_resource=platform.filled("gpu_resource"),
            cpu=settings.gateway_cpu,
            memory=settings.gateway_memory,
        ),
        # A pod is told the address of a Service only if that Service was there before it.
        ResourceOptions.merge(guarded, ResourceOptions(depends_on=[triton])),
    )
    return {
        "site": settings.site,
        "namespace": namespace,
        "triton_deployment": triton.deployment,
        "triton_replicas": settings.triton_replicas,
        "gateway_deployment": gateway.deployment,
        "gateway_replicas": settings.gateway_replicas,
        "model_name": settings.model_name,
        "model_digest": settings.model_digest,
        "accepted_digests": list(settings.accepted),
        "gateway_policy": ingress.gateway_policy,
        "concurrency_limit": settings.concurrency_limit,
        "golden_interval_seconds": settings.golden_interval_seconds,
        "hold_down_seconds": settings.hold_down_seconds,
    }


def _source(storage: Recorded, settings: ServingSettings, namespace: Input[str], opts: ResourceOptions) -> ModelSource:
    """The site's own model store, and the key to it where pods have no identity."""
    credentials = None
    if settings.access_key:
        secret = Secret(
            contract.STORE_CREDENTIALS,
            metadata=ObjectMetaArgs(
                name=contract.STORE_CREDENTIALS, namespace=namespace, labels=naming.labels(settings.site, "store")
            ),
            string_data={
                "access_key": Output.secret(settings.access_key),
                "secret_key": Output.secret(settings.secret_key),
            },
            opts=opts,
        )
        credentials = secret.metadata.name
    return ModelSource(
        image=settings.serving_image,
        endpoint=storage.text("endpoint"),
        region=storage.filled("region"),
        bucket=storage.filled("model_bucket"),
        model_name=settings.model_name,
        credentials_secret=credentials,
    )
