"""The REST service of a site, in front of its model servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.apps.v1 import (
    Deployment,
    DeploymentSpecArgs,
    DeploymentStrategyArgs,
    RollingUpdateDeploymentArgs,
)
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    PodSpecArgs,
    PodTemplateSpecArgs,
    SecretVolumeSourceArgs,
    Service,
    ServiceAccount,
    ServicePortArgs,
    ServiceSpecArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from infra import checks, naming, pod
from infra.termination import GATEWAY_DRAIN_SECONDS, Ending

NAME: Final = "gateway"
TLS: Final = "/tls"
LIVE_PATH: Final = "/livez"
READY_PATH: Final = "/readyz"
"""Not what the DNS service asks: a hold-down there must not leave the site without a single pod to answer."""


@dataclass(frozen=True, kw_only=True)
class VirtualAddress:
    """An edge that is an address of the site's own network; what the Service has to say to stand behind it."""

    annotations: Input[Mapping[str, Input[str]]]
    traffic_policy: Input[str]
    node_port: Input[int] = 0
    """Port of every node that a load balancer outside of the cluster sends to; 0 where the cluster answers itself."""

    @property
    def service_type(self) -> Output[str]:
        """Of an address that nobody in the cluster hands out, a LoadBalancer would wait for ever."""
        return Output.from_input(self.node_port).apply(lambda port: "NodePort" if port else "LoadBalancer")

    @property
    def service_port(self) -> Output[int]:
        """The node port, or none."""
        return cast("Output[int]", Output.from_input(self.node_port).apply(lambda port: port or None))


@dataclass(frozen=True, kw_only=True)
class TargetGroup:
    """An edge that is a load balancer which exists already; pods register in its target group."""

    arn: Input[str]


@dataclass(frozen=True, kw_only=True)
class GatewayArgs:
    """How many gateways, for which model, behind which edge."""

    site: str
    namespace: Input[str]
    priority_class: Input[str]
    image: str
    model: pod.ModelSource
    accepted_digests: tuple[str, ...]
    """Versions whose answers count as right; in order, or a change of the served one would replace every pod."""
    backend: str
    replicas: int
    ending: Input[Ending]
    port: int
    edge_port: int
    edge: VirtualAddress | TargetGroup
    tls_secret: Input[str] | None = None
    """Secret with the certificate the gateways show; none where the edge ends TLS, or nobody does."""
    triton_service: str
    health_token: str
    drain_url: Input[str]
    """The mark that empties this site; while it is there, clients are asked to come back over a new connection."""
    drain_token: str
    concurrency_limit: int
    golden_interval_seconds: int
    hold_down_seconds: int
    request_timeout_seconds: float
    rollout_timeout_seconds: int
    gpu_resource: Input[str]
    cpu: str
    memory: str

    def __post_init__(self) -> None:
        if not self.accepted_digests or list(self.accepted_digests) != sorted(set(self.accepted_digests)):
            raise checks.SettingError(
                f"accepted_digests is {list(self.accepted_digests)}; it is at least one digest, each once, in order:"
                " sort them"
            )

    @property
    def protocol(self) -> str:
        """What a gateway speaks at its port, and what the port is called by."""
        return "http" if self.tls_secret is None else "https"

    @property
    def accepted(self) -> str:
        """The accepted digests as one text."""
        return ",".join(self.accepted_digests)


def triton_variable(service: str) -> str:
    """Address of the model servers as the kubelet's service variables give it, with no DNS server in the path."""
    prefix = service.upper().replace("-", "_")
    return f"$({prefix}_SERVICE_HOST):$({prefix}_SERVICE_PORT_GRPC)"


class Gateway(pulumi.ComponentResource):
    """A service that takes traffic only while the golden request comes back right."""

    deployment: Output[str]

    def __init__(self, name: str, args: GatewayArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:gateway:Gateway", name, {}, opts)
        child = ResourceOptions(parent=self)
        metadata = ObjectMetaArgs(name=NAME, namespace=args.namespace, labels=naming.labels(args.site, NAME))
        selector = LabelSelectorArgs(match_labels=naming.selector(NAME))
        account = ServiceAccount(f"{name}-account", metadata=metadata, opts=child)
        PodDisruptionBudget(
            f"{name}-budget",
            metadata=metadata,
            spec=PodDisruptionBudgetSpecArgs(
                max_unavailable=1, selector=selector, unhealthy_pod_eviction_policy="AlwaysAllow"
            ),
            opts=child,
        )
        deployment = Deployment(
            f"{name}-deployment",
            metadata=ObjectMetaArgs(
                name=NAME,
                namespace=args.namespace,
                labels=naming.labels(args.site, NAME),
                annotations=naming.declared_wins(),
            ),
            spec=DeploymentSpecArgs(
                replicas=args.replicas,
                selector=selector,
                strategy=DeploymentStrategyArgs(
                    type="RollingUpdate",
                    rolling_update=RollingUpdateDeploymentArgs(max_unavailable=0, max_surge=1),
                ),
                template=PodTemplateSpecArgs(
                    metadata=ObjectMetaArgs(
                        labels=naming.labels(args.site, NAME),
                        annotations={"tandem.io/accepted-digests": args.accepted},
                    ),
                    spec=self._pod(args, account.metadata.name),
                ),
            ),
            opts=ResourceOptions.merge(
                child, ResourceOptions(custom_timeouts=pod.rollout_deadline(args.rollout_timeout_seconds))
            ),
        )
        self._expose(name, args, child)
        self.deployment = deployment.metadata.name
        self.register_outputs({"deployment": self.deployment})

    def _expose(self, name: str, args: GatewayArgs, child: ResourceOptions) -> None:
        """The Service, and what joins it to the edge."""
        labels = naming.labels(args.site, NAME)
        if isinstance(args.edge, TargetGroup):
            spec = ServiceSpecArgs(
                type="ClusterIP",
                selector=naming.selector(NAME),
                ports=[ServicePortArgs(name=args.protocol, port=args.edge_port, target_port=args.protocol)],
            )
            metadata = ObjectMetaArgs(name=NAME, namespace=args.namespace, labels=labels)
            service = Service(f"{name}-service", metadata=metadata, spec=spec, opts=child)
            self._bind(name, args, args.edge, service, child)
            return
        Service(
            f"{name}-service",
            metadata=ObjectMetaArgs(
                name=NAME, namespace=args.namespace, labels=labels, annotations=args.edge.annotations
            ),
            spec=ServiceSpecArgs(
                type=args.edge.service_type,
                selector=naming.selector(NAME),
                # Where it is not Local, another node may pass a connection on under its own address, and neither a
                # NetworkPolicy nor a log can tell one client from another.
                external_traffic_policy=args.edge.traffic_policy,
                ports=[
                    ServicePortArgs(
                        name=args.protocol,
                        port=args.edge_port,
                        target_port=args.protocol,
                        node_port=args.edge.service_port,
                    )
                ],
            ),
            opts=child,
        )

    def _bind(
        self, name: str, args: GatewayArgs, edge: TargetGroup, service: Service, child: ResourceOptions
    ) -> CustomResource:
        """Have the balancer's controller register the Service's pods."""
        return CustomResource(
            f"{name}-binding",
            api_version="elbv2.k8s.aws/v1beta1",
            kind="TargetGroupBinding",
            metadata=ObjectMetaArgs(name=NAME, namespace=args.namespace, labels=naming.labels(args.site, NAME)),
            spec={
                "targetGroupARN": edge.arn,
                "targetType": "ip",
                "serviceRef": {"name": service.metadata.name, "port": args.edge_port},
                "networking": {
                    "ingress": [
                        {
                            # Pods have no public address: anyone is anyone inside the VPC.
                            "from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}],
                            "ports": [{"protocol": "TCP", "port": args.port}],
                        }
                    ]
                },
            },
            opts=child,
        )

    def _pod(self, args: GatewayArgs, account: Input[str]) -> PodSpecArgs:
        ending: Output[Ending] = Output.from_input(args.ending)
        return PodSpecArgs(
            service_account_name=account,
            automount_service_account_token=False,
            priority_class_name=args.priority_class,
            security_context=pod.unprivileged(),
            termination_grace_period_seconds=ending.apply(lambda found: found.grace_seconds),
            # Small enough to stand beside the servers it talks to, on a site that has GPU nodes only.
            tolerations=pod.tolerations(args.gpu_resource),
            topology_spread_constraints=pod.spread(NAME),
            init_containers=[pod.fetch(args.model, args.accepted_digests, "reference")],
            containers=[self._server(args, ending.apply(lambda found: found.pause_seconds))],
            volumes=[*pod.volumes(), *_certificate(args)],
        )

    def _server(self, args: GatewayArgs, pause_seconds: Input[int]) -> ContainerArgs:
        # The whole folder and no single file of it, which would stay as it was when the Secret changes.
        tls = [VolumeMountArgs(name="tls", mount_path=TLS, read_only=True)] if args.tls_secret is not None else []
        certificate = {"TLS_CERTIFICATE": f"{TLS}/tls.crt", "TLS_KEY": f"{TLS}/tls.key"} if tls else {}
        return ContainerArgs(
            name=NAME,
            image=args.image,
            command=["python", "-m", "serving.gateway"],
            env=[
                pod.field_variable("POD_IP", "status.podIP"),
                pod.field_variable("POD_NAME", "metadata.name"),
                *pod.variables(
                    {
                        "TMPDIR": pod.SCRATCH,
                        "SITE": args.site,
                        "PORT": str(args.port),
                        "MODEL_DIR": pod.MODELS,
                        "MODEL_NAME": args.model.model_name,
                        "ACCEPTED_DIGESTS": args.accepted,
                        "BACKEND": args.backend,
                        "DRAIN_SECONDS": str(GATEWAY_DRAIN_SECONDS),
                        "TRITON_URL": triton_variable(args.triton_service),
                        "HEALTH_TOKEN": args.health_token,
                        "GOLDEN_INTERVAL_SECONDS": str(args.golden_interval_seconds),
                        "HOLD_DOWN_SECONDS": str(args.hold_down_seconds),
                        "DRAIN_URL": args.drain_url,
                        "DRAIN_TOKEN": args.drain_token,
                        "DRAIN_REGION": args.model.region,
                        "CONCURRENCY_LIMIT": str(args.concurrency_limit),
                        "REQUEST_TIMEOUT_SECONDS": str(args.request_timeout_seconds),
                        **certificate,
                    }
                ),
                *pod.credentials(args.model),
            ],
            ports=[ContainerPortArgs(name=args.protocol, container_port=args.port)],
            resources=pod.resources(args.cpu, args.memory),
            security_context=pod.hardened(),
            startup_probe=pod.probe(LIVE_PATH, args.protocol, period_seconds=1, failures=120),
            readiness_probe=pod.probe(READY_PATH, args.protocol, period_seconds=2, failures=2),
            # Never the golden result: restarting a gateway heals no model.
            liveness_probe=pod.probe(LIVE_PATH, args.protocol, period_seconds=10, failures=3),
            lifecycle=pod.stop_late(pause_seconds),
            volume_mounts=[*pod.mounts(), *tls],
        )


def _certificate(args: GatewayArgs) -> list[VolumeArgs]:
    """The Secret as files its owner's group may read: the gateway is no root."""
    if args.tls_secret is None:
        return []
    return [VolumeArgs(name="tls", secret=SecretVolumeSourceArgs(secret_name=args.tls_secret, default_mode=0o440))]
