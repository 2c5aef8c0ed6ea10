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
from infra.rolling import Rolling
from infra.termination import Ending

NAME: Final = "triton"
PORTS: Final = {"http": 8000, "grpc": 8001, "metrics": 8002}
CLOSED: Final = "shared-memory,model-repository,trace,logging"
"""What nobody may ask, over HTTP or gRPC
(https://github.com/triton-inference-server/server/blob/main/docs/customization_guide/inference_protocols.md)."""
CLOSED_HEADER: Final = "tandem-closed"


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
    """How many at least, where a scaler moves the number."""
    autoscaled: bool = False
    rolling: Input[Rolling]
    """How they are replaced."""
    ending: Ending
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
                # Not http: only the kubelet asks there, and it asks the pod itself. Who measures finds metrics by it.
                ports=[ServicePortArgs(name=port, port=PORTS[port], target_port=port) for port in ("grpc", "metrics")],
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
        rolling: Output[Rolling] = Output.from_input(args.rolling)
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
                    rolling_update=RollingUpdateDeploymentArgs(
                        max_unavailable=rolling.apply(lambda found: found.max_unavailable),
                        max_surge=rolling.apply(lambda found: found.max_surge),
                    ),
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
                child,
                ResourceOptions(
                    custom_timeouts=pod.rollout_deadline(args.rollout_timeout_seconds),
                    # Between its bounds the number is the scaler's: an up would take pods away in the middle of a rush.
                    ignore_changes=["spec.replicas"] if args.autoscaled else None,
                ),
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
            termination_grace_period_seconds=args.ending.grace_seconds,
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
                # What no flag turns off asks for a header whose value nobody outside of this pod knows.
                f"--http-restricted-api={CLOSED}:{CLOSED_HEADER}=$(POD_UID)",
                f"--grpc-restricted-protocol={CLOSED}:{CLOSED_HEADER}=$(POD_UID)",
                *(f"--{interface}-address=$(POD_IP)" for interface in PORTS),
                *(f"--{interface}-port={port}" for interface, port in PORTS.items()),
                f"--exit-timeout-secs={args.ending.exit_seconds}",
                "--backend-config=python,shm-region-prefix-name=$(POD_NAME)",
            ],
            env=[
                pod.field_variable("POD_IP", "status.podIP"),
                pod.field_variable("POD_NAME", "metadata.name"),
                pod.field_variable("POD_UID", "metadata.uid"),
                *pod.variables({"TMPDIR": pod.SCRATCH}),
            ],
            ports=[ContainerPortArgs(name=port, container_port=number) for port, number in PORTS.items()],
            resources=pod.resources(args.cpu, args.memory, args.gpus_per_pod, args.gpu_resource),
            security_context=pod.hardened(),
            startup_probe=pod.probe(ready, "http", period_seconds=2, failures=150),
            readiness_probe=pod.probe(ready, "http", period_seconds=2, failures=3),
            liveness_probe=pod.probe("/v2/health/live", "http", period_seconds=10, failures=3, timeout_seconds=5),
            lifecycle=pod.stop_late(args.ending.pause_seconds),
            volume_mounts=[*pod.mounts(), VolumeMountArgs(name="shm", mount_path="/dev/shm")],  # noqa: S108 - the pod's own
        )
