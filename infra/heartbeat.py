"""A site's own word that it is golden, for a DNS service whose checkers cannot reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.apps.v1 import (
    Deployment,
    DeploymentSpecArgs,
    DeploymentStrategyArgs,
    RollingUpdateDeploymentArgs,
)
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    EmptyDirVolumeSourceArgs,
    EnvVarArgs,
    EnvVarSourceArgs,
    PodSpecArgs,
    PodTemplateSpecArgs,
    ProjectedVolumeSourceArgs,
    Secret,
    SecretKeySelectorArgs,
    ServiceAccount,
    ServiceAccountTokenProjectionArgs,
    VolumeArgs,
    VolumeMountArgs,
    VolumeProjectionArgs,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.networking.v1 import (
    IPBlockArgs,
    NetworkPolicy,
    NetworkPolicyEgressRuleArgs,
    NetworkPolicyPeerArgs,
    NetworkPolicyPortArgs,
    NetworkPolicySpecArgs,
)
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from infra import gateway, golden_metric, naming, pod
from infra.flows import HEARTBEAT, HTTPS, IDENTITY_AGENT, LINK_LOCAL, port_of
from infra.settings_heartbeat import HeartbeatSettings

NAME: Final = HEARTBEAT
REPLICAS: Final = 2
"""One that moves to another node must not look like a site that fell silent."""
LIVE_PATH: Final = "/livez"
PORT: Final = 8081
GRACE_SECONDS: Final = 10
TOKENS: Final = "/var/run/secrets/tandem"
ANYWHERE: Final = "0.0.0.0/0"
AUDIENCE: Final = "sts.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class HeartbeatArgs:
    """Whose word it is, whom it asks for it, and as whom it passes it on."""

    environment: str
    site: str
    namespace: Input[str]
    priority_class: Input[str]
    gpu_resource: Input[str]
    image: str
    gateway_port: int
    health_path: str
    health_token: str
    settings: HeartbeatSettings


class Heartbeat(pulumi.ComponentResource):
    """Says golden or not golden to CloudWatch every few seconds; that it falls silent is an answer too."""

    def __init__(self, name: str, args: HeartbeatArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:heartbeat:Heartbeat", name, {}, opts)
        child = ResourceOptions(parent=self)
        self._flow(f"{name}-calls", args, child)
        account = ServiceAccount(name, metadata=_metadata(NAME, args), opts=child)
        selector = LabelSelectorArgs(match_labels=naming.selector(NAME))
        PodDisruptionBudget(
            name,
            metadata=_metadata(NAME, args),
            spec=PodDisruptionBudgetSpecArgs(max_unavailable=1, selector=selector),
            opts=child,
        )
        Deployment(
            name,
            metadata=_metadata(NAME, args),
            spec=DeploymentSpecArgs(
                replicas=REPLICAS,
                selector=selector,
                strategy=DeploymentStrategyArgs(
                    type="RollingUpdate",
                    rolling_update=RollingUpdateDeploymentArgs(max_unavailable=0, max_surge=1),
                ),
                template=PodTemplateSpecArgs(
                    metadata=ObjectMetaArgs(labels=naming.labels(args.site, NAME)),
                    spec=self._pod(args, account.metadata.name, self._key(name, args, child)),
                ),
            ),
            opts=child,
        )
        self.register_outputs({})

    def _key(self, name: str, args: HeartbeatArgs, child: ResourceOptions) -> Output[str] | None:
        """Name of the Secret with the key to the metrics API, where there is one."""
        if not args.settings.access_key:
            return None
        secret = Secret(
            name,
            metadata=_metadata(NAME, args),
            string_data={
                "access_key": Output.secret(args.settings.access_key),
                "secret_key": Output.secret(args.settings.secret_key),
            },
            opts=child,
        )
        return secret.metadata.name

    def _pod(self, args: HeartbeatArgs, account: Input[str], key: Output[str] | None) -> PodSpecArgs:
        volumes = [VolumeArgs(name="scratch", empty_dir=EmptyDirVolumeSourceArgs(size_limit="16Mi"))]
        mounts = [VolumeMountArgs(name="scratch", mount_path=pod.SCRATCH)]
        if args.settings.role_arn:
            token = ServiceAccountTokenProjectionArgs(path="token", audience=AUDIENCE, expiration_seconds=3600)
            sources = [VolumeProjectionArgs(service_account_token=token)]
            volumes.append(VolumeArgs(name="token", projected=ProjectedVolumeSourceArgs(sources=sources)))
            mounts.append(VolumeMountArgs(name="token", mount_path=TOKENS, read_only=True))
        return PodSpecArgs(
            service_account_name=account,
            automount_service_account_token=False,
            priority_class_name=args.priority_class,
            security_context=pod.unprivileged(),
            termination_grace_period_seconds=GRACE_SECONDS,
            tolerations=pod.tolerations(args.gpu_resource),
            topology_spread_constraints=pod.spread(NAME),
            containers=[
                ContainerArgs(
                    name=NAME,
                    image=args.image,
                    command=["python", "-m", "serving.heartbeat"],
                    env=[*_environment(args), *_credentials(key)],
                    ports=[ContainerPortArgs(name="http", container_port=PORT)],
                    resources=pod.resources("50m", "128Mi"),
                    security_context=pod.hardened(),
                    startup_probe=pod.probe(LIVE_PATH, "http", period_seconds=1, failures=60),
                    readiness_probe=pod.probe(LIVE_PATH, "http", period_seconds=10, failures=1),
                    liveness_probe=pod.probe(LIVE_PATH, "http", period_seconds=10, failures=3),
                    volume_mounts=mounts,
                )
            ],
            volumes=volumes,
        )

    def _flow(self, name: str, args: HeartbeatArgs, child: ResourceOptions) -> None:
        """It asks the gateways and speaks to the metrics API; nothing asks it but the kubelet."""
        gateways = NetworkPolicyPeerArgs(pod_selector=LabelSelectorArgs(match_labels=naming.selector(gateway.NAME)))
        # The API has no fixed addresses; a machine's own services are not part of anywhere.
        anywhere = NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr=ANYWHERE, except_=[LINK_LOCAL]))
        api = port_of(args.settings.endpoint) if args.settings.endpoint else HTTPS
        NetworkPolicy(
            name,
            metadata=_metadata(f"{NAME}-calls", args),
            spec=NetworkPolicySpecArgs(
                pod_selector=LabelSelectorArgs(match_labels=naming.selector(NAME)),
                policy_types=["Egress"],
                egress=[
                    NetworkPolicyEgressRuleArgs(to=[gateways], ports=_tcp(args.gateway_port)),
                    NetworkPolicyEgressRuleArgs(to=[anywhere], ports=_tcp(api)),
                    NetworkPolicyEgressRuleArgs(
                        to=[NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr=IDENTITY_AGENT))], ports=_tcp(80)
                    ),
                ],
            ),
            opts=child,
        )


def _environment(args: HeartbeatArgs) -> list[EnvVarArgs]:
    host = gateway.NAME.upper()
    values: dict[str, Input[str]] = {
        "TMPDIR": pod.SCRATCH,
        "PORT": str(PORT),
        # The gateways' Service as the kubelet gives it: no name server stands between a site and its word.
        "HEALTH_URL": f"http://$({host}_SERVICE_HOST):$({host}_SERVICE_PORT){args.health_path}",
        "HEALTH_TOKEN": args.health_token,
        "INTERVAL_SECONDS": str(args.settings.interval_seconds),
        "METRIC_NAMESPACE": golden_metric.NAMESPACE,
        "METRIC_NAME": golden_metric.METRIC,
        **{
            f"DIMENSION_{key.upper()}": value
            for key, value in golden_metric.dimensions(args.environment, args.site).items()
        },
        "AWS_REGION": golden_metric.REGION,
        "AWS_DEFAULT_REGION": golden_metric.REGION,
    }
    if args.settings.endpoint:
        values["AWS_ENDPOINT_URL_CLOUDWATCH"] = args.settings.endpoint
    if args.settings.role_arn:
        values |= {"AWS_ROLE_ARN": args.settings.role_arn, "AWS_WEB_IDENTITY_TOKEN_FILE": f"{TOKENS}/token"}
    return [pod.field_variable("POD_IP", "status.podIP"), *pod.variables(values)]


def _credentials(key: Output[str] | None) -> list[EnvVarArgs]:
    if key is None:
        return []
    return [
        EnvVarArgs(
            name=name,
            value_from=EnvVarSourceArgs(secret_key_ref=SecretKeySelectorArgs(name=key, key=entry)),
        )
        for name, entry in (("AWS_ACCESS_KEY_ID", "access_key"), ("AWS_SECRET_ACCESS_KEY", "secret_key"))
    ]


def _metadata(name: str, args: HeartbeatArgs) -> ObjectMetaArgs:
    return ObjectMetaArgs(name=name, namespace=args.namespace, labels=naming.labels(args.site, NAME))


def _tcp(port: int) -> list[NetworkPolicyPortArgs]:
    return [NetworkPolicyPortArgs(protocol="TCP", port=port)]
