"""The settings of `pool-<site>`: what both kinds of site have in common, and those of a private one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from infra import checks, naming
from infra.settings_base import Settings


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
