"""The settings of `pool-<site>`, by the kind of the site."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from infra import checks, naming
from infra.checks import SettingError
from infra.settings_base import AwsSettings, Settings


@dataclass(frozen=True, kw_only=True)
class GpuNodes:
    """How many GPU nodes a pool has, between which bounds it may grow and shrink, and when one counts as lost."""

    gpu_nodes: int = 2
    gpu_nodes_min: int = 0
    gpu_nodes_max: int = 2
    node_grace_seconds: int = 50
    """The control plane's --node-monitor-grace-period: told here, set there; 50 is its default since 1.32
    (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/)."""

    def check_nodes(self) -> None:
        """Raise SettingError unless 0 <= min <= nodes <= max, max > 0 and a lost node is noticed in sensible time."""
        # Below two of the kubelet's ten-second reports, one late report is a lost node.
        checks.between("node_grace_seconds", self.node_grace_seconds, 20, 600)
        checks.between("gpu_nodes_max", self.gpu_nodes_max, 1, 450)
        checks.between("gpu_nodes_min", self.gpu_nodes_min, 0, self.gpu_nodes_max)
        checks.between("gpu_nodes", self.gpu_nodes, self.gpu_nodes_min, self.gpu_nodes_max)


@dataclass(frozen=True, kw_only=True)
class PrivatePoolSettings(GpuNodes, Settings):
    """`pool-<site>` of a private cloud: Cluster API machines behind a virtual address."""

    layer: ClassVar[str] = "pool"

    site: str
    kind: str
    cluster_name: str
    kubeconfig: dict[str, Any]
    """Of the cluster workloads run in; exported, so it holds no credential."""
    management_kubeconfig: dict[str, Any] = field(repr=False)
    """Of the cluster that holds the Cluster API objects; a secret, never exported."""
    management_namespace: str = "default"
    machine_template: str = "gpu"
    """Metal3MachineTemplate in the management namespace that describes the hardware."""
    bootstrap_template: str = "gpu"
    """KubeadmConfigTemplate that makes a machine a node, with the driver and the GPU taint."""
    kubernetes_version: str
    """x.y.z, as Cluster API wants it."""
    gpu_type: str = "nvidia.com/gpu"
    gpu_count: int = 1
    cpu: int = 8
    memory_gib: int = 32
    edge_address: str
    load_balancer_namespace: str = "metallb-system"
    """Where MetalLB runs and looks for its address pools."""

    def __post_init__(self) -> None:
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.kubeconfig("kubeconfig", self.kubeconfig, exported=True)
        checks.kubeconfig("management_kubeconfig", self.management_kubeconfig, exported=False)
        for key in ("cluster_name", "management_namespace", "machine_template", "bootstrap_template"):
            checks.label(key, getattr(self, key))
        checks.label("load_balancer_namespace", self.load_balancer_namespace)
        checks.version("kubernetes_version", self.kubernetes_version, parts=3)
        checks.between("gpu_count", self.gpu_count, 1, 16)
        checks.between("cpu", self.cpu, 1, 1024)
        checks.between("memory_gib", self.memory_gib, 1, 32768)
        checks.ipv4("edge_address", self.edge_address)
        self.check_nodes()


@dataclass(frozen=True, kw_only=True)
class PublicPoolSettings(GpuNodes, AwsSettings):
    """`pool-<site>` of a public cloud: EKS in a network of its own behind a network load balancer."""

    layer: ClassVar[str] = "pool"
    services: ClassVar[tuple[str, ...]] = ("ec2", "eks", "elbv2", "iam", "kms", "sts")

    site: str
    kind: str
    cluster_name: str
    vpc_cidr: str = "10.0.0.0/16"
    zones: tuple[str, ...]
    kubernetes_version: str
    """x.y, as EKS wants it."""
    api_allowed_cidrs: tuple[str, ...] = ()
    """Networks that reach the Kubernetes API from outside; none keeps it inside the VPC."""
    system_instance_type: str = "m7i.large"
    system_nodes: int = 2
    gpu_instance_types: tuple[str, ...] = ("g6.xlarge", "g5.xlarge", "g4dn.xlarge")
    gpu_disk_gib: int = 100
    edge_port: int = 443
    gateway_port: int = 8080
    cluster_authentication: str = "aws-cli"
    """aws-cli: clients fetch a short-lived token with `aws eks get-token`; none: the API asks for no credential."""

    def __post_init__(self) -> None:
        AwsSettings.__post_init__(self)
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.label("cluster_name", self.cluster_name, naming.EKS_NAME_LIMIT)
        checks.network("vpc_cidr", self.vpc_cidr, 16, 20)
        for entry in self.api_allowed_cidrs:
            checks.network("api_allowed_cidrs", entry, 8, 32)
        if len(set(self.zones)) != len(self.zones) or not 2 <= len(self.zones) <= 4:
            raise SettingError(
                f"zones is {list(self.zones)}; EKS needs two to four different zones: name them like eu-central-1a"
            )
        if not self.gpu_instance_types:
            raise SettingError("gpu_instance_types is empty; a GPU pool has a type at least: name one, like g6.xlarge")
        checks.version("kubernetes_version", self.kubernetes_version, parts=2)
        checks.between("system_nodes", self.system_nodes, 1, 100)
        checks.between("gpu_disk_gib", self.gpu_disk_gib, 50, 16384)
        checks.between("edge_port", self.edge_port, 1, 65535)
        checks.between("gateway_port", self.gateway_port, 1024, 65535)
        checks.one_of("cluster_authentication", self.cluster_authentication, ("aws-cli", "none"))
        self.check_nodes()
