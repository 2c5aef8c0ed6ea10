"""What a cluster needs before anything is served on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_kubernetes.apps.v1 import DaemonSet, DaemonSetSpecArgs
from pulumi_kubernetes.core.v1 import (
    CapabilitiesArgs,
    ContainerArgs,
    EnvVarArgs,
    HostPathVolumeSourceArgs,
    LimitRange,
    LimitRangeItemArgs,
    LimitRangeSpecArgs,
    Namespace,
    PodSpecArgs,
    PodTemplateSpecArgs,
    ResourceQuota,
    ResourceQuotaSpecArgs,
    ResourceRequirementsArgs,
    SecurityContextArgs,
    TolerationArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.scheduling.v1 import PriorityClass

from infra import naming

GPU_RESOURCE: Final = "nvidia.com/gpu"
"""Extended resource the device plugin offers, and the key of the taint that keeps other work off its nodes."""
PLUGIN: Final = "nvidia-device-plugin"
PLUGIN_SOCKETS: Final = "/var/lib/kubelet/device-plugins"
SERVING_PRIORITY: Final = 100_000
BATCH_PRIORITY: Final = 1_000
"""Above nothing that answers users, and it displaces nobody: it waits for room."""
SILENT: Final = {"cpu": "100m", "memory": "128Mi"}
"""What a container that asks for nothing is taken to ask for; without it the quota would refuse its pod."""
SILENT_LIMIT: Final = {"memory": "512Mi"}


@dataclass(frozen=True, kw_only=True)
class PlatformArgs:
    """The namespace of the site's workloads, and how much they may request in all."""

    site: str
    namespace: str
    device_plugin_image: str = ""
    """NVIDIA's device plugin; empty where its operator brings one."""
    gpu_quota: int
    quota_cpu: str
    quota_memory: str
    quota_pods: int
    namespace_labels: dict[str, str] = field(default_factory=dict)
    """What else the namespace says of itself."""


class Platform(pulumi.ComponentResource):
    """A namespace in which serving pods find GPUs, come before other work and can ask for no privilege."""

    namespace: Output[str]
    priority_class: Output[str]

    def __init__(self, name: str, args: PlatformArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:platform:Platform", name, {}, opts)
        child = ResourceOptions(parent=self)
        labels = naming.labels(args.site, "platform")
        namespace = Namespace(
            f"{name}-namespace",
            metadata=ObjectMetaArgs(
                name=args.namespace,
                labels={
                    **labels,
                    **args.namespace_labels,
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/audit": "restricted",
                    "pod-security.kubernetes.io/warn": "restricted",
                },
            ),
            opts=child,
        )
        bounds = self._bounds(name, args, namespace.metadata.name, child)
        priority = PriorityClass(
            f"{name}-priority",
            metadata=ObjectMetaArgs(name="tandem-serving", labels=labels),
            value=SERVING_PRIORITY,
            description="Pods that answer users; they displace batch work when nodes are lost.",
            opts=child,
        )
        PriorityClass(
            f"{name}-batch",
            metadata=ObjectMetaArgs(name="tandem-batch", labels=labels),
            value=BATCH_PRIORITY,
            preemption_policy="Never",
            description="Work that can wait; it displaces nobody.",
            opts=child,
        )
        if args.device_plugin_image:
            bounds.append(self._device_plugin(f"{name}-gpu", args, child))
        # Whoever reads the namespace waits for what bounds it and has GPUs offered in it.
        self.namespace = Output.all(namespace.metadata.name, *(each.id for each in bounds)).apply(
            lambda known: str(known[0])
        )
        self.priority_class = priority.metadata.name
        self.register_outputs({"namespace": self.namespace, "priority_class": self.priority_class})

    def _bounds(
        self, name: str, args: PlatformArgs, namespace: Output[str], child: ResourceOptions
    ) -> list[pulumi.CustomResource]:
        """How much the namespace may request in all, and what a pod that does not say requests."""
        labels = naming.labels(args.site, "platform")
        hard = {
            "requests.cpu": args.quota_cpu,
            "requests.memory": args.quota_memory,
            f"requests.{GPU_RESOURCE}": str(args.gpu_quota),
            "pods": str(args.quota_pods),
        }
        quota = ResourceQuota(
            f"{name}-quota",
            metadata=ObjectMetaArgs(name="tandem", namespace=namespace, labels=labels),
            spec=ResourceQuotaSpecArgs(hard=hard),
            opts=child,
        )
        limits = LimitRange(
            f"{name}-limits",
            metadata=ObjectMetaArgs(name="tandem", namespace=namespace, labels=labels),
            spec=LimitRangeSpecArgs(
                limits=[LimitRangeItemArgs(type="Container", default=SILENT_LIMIT, default_request=SILENT)]
            ),
            opts=child,
        )
        return [quota, limits]

    def _device_plugin(self, name: str, args: PlatformArgs, child: ResourceOptions) -> DaemonSet:
        """NVIDIA's device plugin as its own static manifest declares it (github.com/NVIDIA/k8s-device-plugin)."""
        labels = naming.labels(args.site, PLUGIN)
        container = ContainerArgs(
            name=PLUGIN,
            image=args.device_plugin_image,
            # On a node without a GPU it waits instead of crashing.
            env=[EnvVarArgs(name="FAIL_ON_INIT_ERROR", value="false")],
            resources=ResourceRequirementsArgs(requests={"cpu": "20m", "memory": "64Mi"}, limits={"memory": "128Mi"}),
            security_context=SecurityContextArgs(
                allow_privilege_escalation=False,
                read_only_root_filesystem=True,
                capabilities=CapabilitiesArgs(drop=["ALL"]),
            ),
            volume_mounts=[VolumeMountArgs(name="device-plugins", mount_path=PLUGIN_SOCKETS)],
        )
        return DaemonSet(
            name,
            metadata=ObjectMetaArgs(name=PLUGIN, namespace="kube-system", labels=labels),
            spec=DaemonSetSpecArgs(
                selector=LabelSelectorArgs(match_labels=naming.selector(PLUGIN)),
                template=PodTemplateSpecArgs(
                    metadata=ObjectMetaArgs(labels=labels),
                    spec=PodSpecArgs(
                        priority_class_name="system-node-critical",
                        automount_service_account_token=False,
                        tolerations=[TolerationArgs(key=GPU_RESOURCE, operator="Exists", effect="NoSchedule")],
                        containers=[container],
                        volumes=[
                            VolumeArgs(name="device-plugins", host_path=HostPathVolumeSourceArgs(path=PLUGIN_SOCKETS))
                        ],
                    ),
                ),
            ),
            opts=child,
        )
