"""The model servers of a site."""

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
    PodSpecArgs,
    PodTemplateSpecArgs,
    Service,
    ServiceAccount,
    ServicePortArgs,
    ServiceSpecArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from infra import naming, pod

NAME: Final = "triton"
PORTS: Final = {"http": 8000, "grpc": 8001, "metrics": 8002}
EXIT_SECONDS: Final = 10
"""How long Triton lets requests in flight end after SIGTERM."""
GRACE_SECONDS: Final = 20
"""More than the pause before SIGTERM, Triton's exit and its Python stub's end together."""


@dataclass(frozen=True, kw_only=True)
class TritonArgs:
    """How many servers, of which image, with which model, on what."""

    site: str
    namespace: Input[str]
    priority_class: Input[str]
    image: str
    model: pod.ModelSource
    digest: str
    """The one version they serve."""
    backend: str
    """Name of the configuration in the model package: cpu or gpu."""
    replicas: int
    gpus_per_pod: int
    rollout_timeout_seconds: int
    gpu_resource: Input[str]
    cpu: str
    memory: str


class Triton(pulumi.ComponentResource):
    """Servers that open only bytes of the declared digest, and say ready only while they answer with them."""

    deployment: Output[str]
    service: Output[str]

    def __init__(self, name: str, args: TritonArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:triton:Triton", name, {}, opts)
        child = ResourceOptions(parent=self)
        metadata = ObjectMetaArgs(name=NAME, namespace=args.namespace, labels=naming.labels(args.site, NAME))
        selector = LabelSelectorArgs(match_labels=naming.selector(NAME))
        account = ServiceAccount(f"{name}-account", metadata=metadata, opts=child)
        service = Service(
            f"{name}-service",
            metadata=metadata,
            spec=ServiceSpecArgs(
                selector=naming.selector(NAME),
                ports=[ServicePortArgs(name=port, port=PORTS[port], target_port=port) for port in ("grpc", "http")],
            ),
            opts=child,
        )
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
                # A rollout must not wait for a GPU that nobody has free: first one pod goes, then its successor comes.
                strategy=DeploymentStrategyArgs(
                    type="RollingUpdate",
                    rolling_update=RollingUpdateDeploymentArgs(max_unavailable=1, max_surge=0),
                ),
                template=PodTemplateSpecArgs(
                    metadata=ObjectMetaArgs(
                        labels=naming.labels(args.site, NAME),
                        annotations={"tandem.io/model-digest": args.digest},
                    ),
                    spec=self._pod(args, account.metadata.name),
                ),
            ),
            opts=ResourceOptions.merge(
                child, ResourceOptions(custom_timeouts=pod.rollout_deadline(args.rollout_timeout_seconds))
            ),
        )
        self.deployment = deployment.metadata.name
        self.service = service.metadata.name
        self.register_outputs({"deployment": self.deployment, "service": self.service})

    def _pod(self, args: TritonArgs, account: Input[str]) -> PodSpecArgs:
        # Python-backend models talk to the server through shared memory.
        shared = VolumeArgs(name="shm", empty_dir=EmptyDirVolumeSourceArgs(medium="Memory", size_limit="256Mi"))
        return PodSpecArgs(
            service_account_name=account,
            automount_service_account_token=False,
            priority_class_name=args.priority_class,
            security_context=pod.unprivileged(),
            termination_grace_period_seconds=GRACE_SECONDS,
            tolerations=pod.tolerations(args.gpu_resource),
            topology_spread_constraints=pod.spread(NAME),
            init_containers=[pod.fetch(args.model, [args.digest], "repository")],
            containers=[self._server(args)],
            volumes=[*pod.volumes(), shared],
        )

    def _server(self, args: TritonArgs) -> ContainerArgs:
        # Not /v2/health/ready: one bad version beside a good one turns that red while the good one still answers.
        ready = f"/v2/models/{args.model.model_name}/ready"
        return ContainerArgs(
            name=NAME,
            image=args.image,
            command=["tritonserver"],
            args=[
                f"--model-repository={pod.MODELS}/repository",
                f"--model-config-name={args.backend}",
                # The repository is what the init container verified; nobody loads anything else later.
                "--model-control-mode=none",
                *(f"--{interface}-address=$(POD_IP)" for interface in PORTS),
                *(f"--{interface}-port={port}" for interface, port in PORTS.items()),
                f"--exit-timeout-secs={EXIT_SECONDS}",
                "--backend-config=python,shm-region-prefix-name=$(POD_NAME)",
            ],
            env=[
                pod.field_variable("POD_IP", "status.podIP"),
                pod.field_variable("POD_NAME", "metadata.name"),
                *pod.variables({"TMPDIR": pod.SCRATCH}),
            ],
            ports=[ContainerPortArgs(name=port, container_port=number) for port, number in PORTS.items()],
            resources=pod.resources(args.cpu, args.memory, args.gpus_per_pod, args.gpu_resource),
            security_context=pod.hardened(),
            startup_probe=pod.probe(ready, "http", period_seconds=2, failures=150),
            readiness_probe=pod.probe(ready, "http", period_seconds=2, failures=3),
            liveness_probe=pod.probe("/v2/health/live", "http", period_seconds=10, failures=3, timeout_seconds=5),
            lifecycle=pod.stop_late(),
            volume_mounts=[*pod.mounts(), VolumeMountArgs(name="shm", mount_path="/dev/shm")],  # noqa: S108 - the pod's own
        )
