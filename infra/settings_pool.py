"""The settings of `pool-<site>`: what both kinds of site have in common, and those of a private one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from infra import checks, naming
from infra.checks import SettingError
from infra.settings_base import Settings

MACHINES: Final = "machines"
ADOPT: Final = "adopt"
METALLB: Final = "metallb"
CILIUM: Final = "cilium"
EXTERNAL: Final = "external"

_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?")
_LABEL_NAME = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?")
_SYNCED = re.compile(
    r"(node-role\.kubernetes\.io|(.+\.)?node-restriction\.kubernetes\.io|(.+\.)?node\.cluster\.x-k8s\.io)/.+"
)
"""https://cluster-api.sigs.k8s.io/reference/api/metadata-propagation"""
_LABEL_VALUE = re.compile(r"([a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?)?")


@dataclass(frozen=True, kw_only=True)
class NodeGrace:
    """When a silent node counts as lost."""

    node_grace_seconds: int = 50
    """The control plane's --node-monitor-grace-period: told here, set there; 50 is its default since 1.32
    (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/)."""

    def check_grace(self) -> None:
        """Raise SettingError unless a lost node is noticed in sensible time."""
        # Below two of the kubelet's ten-second reports, one late report is a lost node.
        checks.between("node_grace_seconds", self.node_grace_seconds, 20, 600)


@dataclass(frozen=True, kw_only=True)
class MachinePool:
    """GPU machines of one kind, and how many of them there are: one entry of `gpu_pools` on a private site."""

    name: str
    gpu_type: str = "nvidia.com/gpu"
    """Extended resource one machine brings."""
    gpu_count: int = 1
    cpu: int = 8
    memory_gib: int = 32
    min: int = 0
    """Fewest machines; what the site can be counted on for."""
    desired: int = 2
    max: int = 2
    autoscaled: bool = False
    """Whether the cluster autoscaler moves the number between min and max; then desired is where it starts."""
    machine_template: str = "gpu"
    """Metal3MachineTemplate in the management namespace that describes the hardware."""
    bootstrap_template: str = "gpu"
    """KubeadmConfigTemplate that makes a machine a node, with the driver and the GPU taint."""
    remediation_template: str = ""
    """Metal3RemediationTemplate that power-cycles an ill machine before it is replaced; empty for none."""
    node_startup_minutes: int = 20
    """How long a new machine may take to become a node; after that it counts as ill."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels of its nodes, in a domain that Cluster API copies from a machine to its node."""

    def check(self, key: str) -> None:
        """Raise SettingError, naming the entry `key`, unless the machines can be made and counted."""
        checks.label(f"{key}.name", self.name)
        _resource(f"{key}.gpu_type", self.gpu_type)
        checks.between(f"{key}.gpu_count", self.gpu_count, 1, 16)
        checks.between(f"{key}.cpu", self.cpu, 1, 1024)
        checks.between(f"{key}.memory_gib", self.memory_gib, 1, 32768)
        checks.between(f"{key}.max", self.max, 1, 450)
        checks.between(f"{key}.min", self.min, 0, self.max)
        checks.between(f"{key}.desired", self.desired, self.min, self.max)
        if self.autoscaled and self.min == self.max:
            raise SettingError(
                f"{key}.autoscaled is true with min and max both {self.max}; there is nothing to scale between:"
                " raise max, lower min, or set autoscaled to false"
            )
        checks.label(f"{key}.machine_template", self.machine_template)
        checks.label(f"{key}.bootstrap_template", self.bootstrap_template)
        if self.remediation_template:
            checks.label(f"{key}.remediation_template", self.remediation_template)
        checks.between(f"{key}.node_startup_minutes", self.node_startup_minutes, 1, 240)
        _labels(f"{key}.labels", self.labels)
        for name in self.labels:
            if not _SYNCED.fullmatch(name):
                raise SettingError(
                    f"{key}.labels has {name!r}; Cluster API copies only labels of node.cluster.x-k8s.io,"
                    " node-role.kubernetes.io and node-restriction.kubernetes.io from a machine to its node: use such a"
                    " name, or give the node its label in the bootstrap template"
                )


@dataclass(frozen=True, kw_only=True)
class AdoptedPool:
    """GPU nodes that exist and that something else keeps: one entry of `adopted_pools`."""

    name: str
    nodes: tuple[str, ...]
    """Names of the nodes, as `kubectl get nodes` prints them."""
    gpu_count: int = 1
    """GPUs of each of them."""
    taint: bool = True
    """Whether the GPU taint is put on them here; false where whoever made them did."""
    labels: dict[str, str] = field(default_factory=dict)

    def check(self, key: str) -> None:
        """Raise SettingError, naming the entry `key`, unless it names nodes."""
        checks.label(f"{key}.name", self.name)
        if not self.nodes:
            raise SettingError(f"{key}.nodes is empty; a pool that is adopted names its nodes: list at least one")
        for node in self.nodes:
            for part in node.split("."):
                if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", part):
                    raise SettingError(
                        f"{key}.nodes has {node!r}; it is the name of a node: write it as `kubectl get nodes` prints it"
                    )
        checks.between(f"{key}.gpu_count", self.gpu_count, 1, 16)
        _labels(f"{key}.labels", self.labels)


@dataclass(frozen=True, kw_only=True)
class PrivatePoolSettings(NodeGrace, Settings):
    """`pool-<site>` of a private cloud: machines or nodes behind a virtual address."""

    layer: ClassVar[str] = "pool"

    site: str
    kind: str
    cluster_name: str
    kubeconfig: dict[str, Any]
    """Of the cluster workloads run in; exported, so it holds no credential."""
    pool_mode: str = MACHINES
    """machines: Cluster API makes them; adopt: the nodes exist and get labels and a taint."""
    gpu_pools: tuple[MachinePool, ...] = ()
    adopted_pools: tuple[AdoptedPool, ...] = ()
    management_kubeconfig: dict[str, Any] = field(default_factory=dict, repr=False)
    """Of the cluster that holds the Cluster API objects; a secret, never exported."""
    management_namespace: str = "default"
    kubernetes_version: str = ""
    """x.y.z, as Cluster API wants it."""
    edge_mode: str = METALLB
    """Who answers for the virtual address: MetalLB, Cilium, or a load balancer that something else keeps."""
    edge_address: str
    """Where traffic enters: the virtual address, or the one of that load balancer."""
    edge_public_address: str = ""
    """What the world calls it where a NAT stands before it; empty where it is reached as it is."""
    edge_node_port: int = 0
    """Port of every node that somebody else's load balancer sends to; 0 where the cluster answers itself."""
    edge_interfaces: tuple[str, ...] = ()
    """Interfaces the address is announced on, by name or pattern; none named means all."""
    load_balancer_namespace: str = "metallb-system"
    """Where MetalLB runs and looks for its address pools."""

    @property
    def public_address(self) -> str:
        """What DNS names."""
        return self.edge_public_address or self.edge_address

    @property
    def firm_gpus(self) -> int:
        """GPUs there are with every pool at its minimum."""
        machines = sum(pool.min * pool.gpu_count for pool in self.gpu_pools)
        return machines + sum(len(pool.nodes) * pool.gpu_count for pool in self.adopted_pools)

    def __post_init__(self) -> None:
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.label("cluster_name", self.cluster_name)
        checks.kubeconfig("kubeconfig", self.kubeconfig, exported=True)
        checks.one_of("pool_mode", self.pool_mode, (MACHINES, ADOPT))
        if self.pool_mode == MACHINES:
            self._check_machines()
        else:
            self._check_adopted()
        names = [*(pool.name for pool in self.gpu_pools), *(pool.name for pool in self.adopted_pools)]
        for name in names:
            if names.count(name) > 1:
                raise SettingError(f"pool {name!r} is declared twice; what is made of it carries its name: rename one")
        self._check_edge()
        self.check_grace()

    def _check_machines(self) -> None:
        if self.adopted_pools:
            raise SettingError(
                "adopted_pools is set and pool_mode is machines; a site's nodes are made by Cluster API or adopted,"
                " not both: set pool_mode to adopt, or remove adopted_pools"
            )
        if not self.gpu_pools:
            raise SettingError("gpu_pools is empty; a site has a GPU pool at least: add one, with a name")
        if not self.management_kubeconfig:
            raise SettingError(
                "management_kubeconfig is empty; Cluster API's objects go to the cluster it names: set it, or pool_mode"
                " to adopt where the nodes exist already"
            )
        checks.kubeconfig("management_kubeconfig", self.management_kubeconfig, exported=False)
        checks.label("management_namespace", self.management_namespace)
        checks.version("kubernetes_version", self.kubernetes_version, parts=3)
        for number, pool in enumerate(self.gpu_pools):
            pool.check(f"gpu_pools[{number}]")
            checks.label(f"name of the machines of pool {pool.name}", f"{self.cluster_name}-{pool.name}")

    def _check_adopted(self) -> None:
        unused = [key for key in ("gpu_pools", "management_kubeconfig", "kubernetes_version") if getattr(self, key)]
        if unused:
            raise SettingError(
                f"{unused[0]} is set and pool_mode is adopt; nobody makes machines there: remove it, or set pool_mode"
                " to machines"
            )
        if not self.adopted_pools:
            raise SettingError("adopted_pools is empty; pool_mode adopt names the nodes it takes: add a pool")
        for number, pool in enumerate(self.adopted_pools):
            pool.check(f"adopted_pools[{number}]")
        nodes = [node for pool in self.adopted_pools for node in pool.nodes]
        for node in nodes:
            if nodes.count(node) > 1:
                raise SettingError(f"node {node!r} is named twice in adopted_pools; it is in one pool: remove one")

    def _check_edge(self) -> None:
        checks.one_of("edge_mode", self.edge_mode, (METALLB, CILIUM, EXTERNAL))
        checks.ipv4("edge_address", self.edge_address)
        if self.edge_public_address:
            checks.ipv4("edge_public_address", self.edge_public_address)
        if self.edge_mode == METALLB:
            checks.label("load_balancer_namespace", self.load_balancer_namespace)
        if self.edge_mode == EXTERNAL:
            # https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport
            checks.between("edge_node_port", self.edge_node_port, 30000, 32767)
        elif self.edge_node_port:
            raise SettingError(
                f"edge_node_port is {self.edge_node_port} and edge_mode is {self.edge_mode}; a port of the nodes is for"
                " a load balancer outside of the cluster: remove it, or set edge_mode to external"
            )
        if self.edge_interfaces and self.edge_mode == EXTERNAL:
            raise SettingError(
                "edge_interfaces is set and edge_mode is external; nothing is announced there: remove edge_interfaces"
            )


def _resource(key: str, value: str) -> None:
    if not _RESOURCE.fullmatch(value):
        raise SettingError(f"{key} is {value!r}; it is an extended resource: write it like nvidia.com/gpu")


def _labels(key: str, labels: dict[str, str]) -> None:
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            raise SettingError(
                f"{key} has {name}: {value!r}; a label is a name, with a domain and a slash before it or not, and at"
                " most 63 letters, digits, dots, hyphens and underscores: respell it"
            )
