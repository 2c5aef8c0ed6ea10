"""`serving-<site>`: the recommender of a site, from its own store to its own edge."""

from __future__ import annotations

from typing import Any

import pulumi_kubernetes as kubernetes
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import naming
from infra.alerts import Watched
from infra.autoscaling import QueueScaler, QueueScalerArgs
from infra.flows import Flows, FlowsArgs, port_of
from infra.gateway import Gateway, GatewayArgs, TargetGroup, VirtualAddress
from infra.heartbeat import Heartbeat, HeartbeatArgs
from infra.monitoring import Monitoring, MonitoringArgs
from infra.pod import ModelSource
from infra.settings import PRIVATE, ServingSettings
from infra.tls import NAME as CERTIFICATE
from infra.tls import ServerCertificate, ServerCertificateArgs
from infra.triton import NAME as TRITON
from infra.triton import Triton, TritonArgs
from stacks import contract
from stacks.references import Recorded


def declare(stack: contract.StackName, settings: ServingSettings) -> dict[str, Any]:
    """Model servers and gateways; of the site's kind, only the edge object knows."""
    storage, pool, platform = (Recorded(stack.sibling(layer)) for layer in ("storage", "pool", "platform"))
    opts = ResourceOptions(provider=kubernetes.Provider("cluster", kubeconfig=pool.filled("kubeconfig")))
    rolling = Output.all(platform.whole("gpu_quota"), pool.whole("firm_gpus")).apply(
        lambda gpus: settings.triton_rolling(*gpus)
    )
    ending = pool.whole("edge_deregistration_seconds").apply(settings.gateway_ending)
    # What does not fit this site fails here: every object below needs the namespace, and nothing of them is there yet.
    namespace = Output.all(platform.filled("namespace"), rolling, ending).apply(lambda known: str(known[0]))
    source = _source(storage, settings, namespace, opts)
    own_key = source.credentials_secret
    flows = Flows(
        "flows",
        FlowsArgs(
            site=settings.site,
            namespace=namespace,
            gateway_port=settings.gateway_port,
            store_port=storage.text("endpoint").apply(port_of),
            other_store_ports=tuple(sorted(int(port) for port in settings.other_store_ports)),
            store_cidrs=settings.store_cidrs,
            api_cidrs=settings.api_cidrs,
            dns_cidrs=settings.dns_cidrs,
            monitoring_namespace=platform.filled("monitoring_namespace"),
            identity_agent=own_key is None,
        ),
        opts,
    )
    # No pod stands open, not even before its first request.
    guarded = ResourceOptions.merge(opts, ResourceOptions(depends_on=[flows]))
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
            autoscaled=bool(settings.autoscaling_max_replicas),
            rolling=rolling,
            ending=settings.triton_ending,
            gpus_per_pod=settings.gpus_per_pod,
            rollout_timeout_seconds=settings.rollout_timeout_seconds,
            gpu_resource=platform.filled("gpu_resource"),
            cpu=settings.triton_cpu,
            memory=settings.triton_memory,
        ),
        guarded,
    )
    if settings.autoscaling_max_replicas:
        _scale(settings, namespace, triton, opts)
    edge = (
        VirtualAddress(
            annotations=pool.words("edge_annotations"),
            traffic_policy=pool.filled("edge_traffic_policy"),
            node_port=pool.whole("edge_node_port"),
        )
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
            ending=ending,
            port=settings.gateway_port,
            edge_port=settings.edge_port,
            edge=edge,
            tls_secret=_certificate(settings, namespace, opts),
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
    for spoken in settings.heartbeat:
        Heartbeat(
            "heartbeat",
            HeartbeatArgs(
                environment=stack.env,
                site=settings.site,
                namespace=namespace,
                priority_class=platform.filled("priority_class"),
                gpu_resource=platform.filled("gpu_resource"),
                image=settings.serving_image,
                gateway_port=settings.gateway_port,
                health_path=contract.HEALTH_PATH,
                health_token=contract.HEALTH_TOKEN,
                settings=spoken,
            ),
            ResourceOptions.merge(guarded, ResourceOptions(depends_on=[gateway])),
        )
    if settings.monitoring:
        watched = Output.all(namespace, triton.deployment, gateway.deployment).apply(
            lambda names: _watched(settings, *map(str, names))
        )
        _monitor(settings, namespace, watched, opts)
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
        "gateway_scheme": settings.gateway_scheme,
        "gateway_policy": flows.gateway_policy,
        "lease_secret_name": settings.lease_secret or ("" if own_key is None else own_key),
        "gpus_per_pod": settings.gpus_per_pod,
        "requests_per_second_per_pod": settings.requests_per_second_per_pod,
        "requests_per_second_per_gateway": settings.requests_per_second_per_gateway,
        "concurrency_limit": settings.concurrency_limit,
        "golden_interval_seconds": settings.golden_interval_seconds,
        "hold_down_seconds": settings.hold_down_seconds,
    }


def _certificate(settings: ServingSettings, namespace: Input[str], opts: ResourceOptions) -> Input[str] | None:
    """The Secret with what the gateways show; none where they speak plain HTTP to an edge that ends TLS."""
    if not settings.tls_issuer:
        return settings.tls_secret or None
    args = ServerCertificateArgs(
        site=settings.site, namespace=namespace, issuer=settings.tls_issuer, names=settings.tls_names
    )
    return ServerCertificate("tls", args, opts).secret


def _watched(settings: ServingSettings, namespace: str, triton: str, gateway: str) -> Watched:
    """The site as its alerts see it."""
    return Watched(
        site=settings.site,
        namespace=namespace,
        model_name=settings.model_name,
        triton_deployment=triton,
        triton_replicas=settings.triton_replicas,
        requests_per_second_per_pod=settings.requests_per_second_per_pod,
        gateway_deployment=gateway,
        gateway_replicas=settings.gateway_replicas,
        requests_per_second_per_gateway=settings.requests_per_second_per_gateway,
        availability_percent=settings.objective_availability_percent,
        queue_per_pod=settings.autoscaling_queue_per_pod,
        replication_lag_seconds=settings.replication_lag_seconds,
        replication_lag_metric=settings.replication_lag_metric,
        certificate=CERTIFICATE if settings.tls_issuer else "",
    )


def _monitor(settings: ServingSettings, namespace: Input[str], watched: Input[Watched], opts: ResourceOptions) -> None:
    """What Prometheus reads of the site's pods, and when it calls somebody."""
    Monitoring(
        "monitoring",
        MonitoringArgs(
            site=settings.site,
            namespace=namespace,
            protocol=settings.gateway_scheme,
            watched=watched,
            own_certificate=bool(settings.tls_issuer),
            copies_watched=settings.copies_watched,
        ),
        opts,
    )


def _scale(settings: ServingSettings, namespace: Input[str], triton: Triton, opts: ResourceOptions) -> None:
    """More model servers while requests wait for them."""
    QueueScaler(
        "autoscaling",
        QueueScalerArgs(
            site=settings.site,
            namespace=namespace,
            deployment=triton.deployment,
            model_name=settings.model_name,
            min_replicas=settings.triton_replicas,
            max_replicas=settings.autoscaling_max_replicas,
            queue_per_pod=settings.autoscaling_queue_per_pod,
            cooldown_seconds=settings.autoscaling_cooldown_seconds,
            prometheus_url=settings.prometheus_url,
        ),
        opts,
    )


def _source(storage: Recorded, settings: ServingSettings, namespace: Input[str], opts: ResourceOptions) -> ModelSource:
    """The site's own model store, and the Secret with the key to it where pods have no identity."""
    credentials: Input[str] | None = settings.store_secret or None
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
