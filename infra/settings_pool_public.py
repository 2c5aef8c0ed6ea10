"""The settings of `pool-<site>` of a public cloud."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Final

from infra import checks, naming
from infra.checks import SettingError
from infra.gpu_instances import gpus_of
from infra.log_retention import RETENTIONS
from infra.settings_base import AwsSettings
from infra.settings_pool import NodeGrace

ON_DEMAND: Final = "on-demand"
SPOT: Final = "spot"
EXTENDED: Final = "extended"
STANDARD: Final = "standard"
AL2023: Final = "AL2023_x86_64_NVIDIA"
BOTTLEROCKET: Final = "BOTTLEROCKET_x86_64_NVIDIA"
ACCESS_POLICIES: Final = (
    "AmazonEKSClusterAdminPolicy", "AmazonEKSAdminPolicy", "AmazonEKSEditPolicy", "AmazonEKSViewPolicy"
)  # fmt: skip
"""https://docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html"""
_PRINCIPAL: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/.+")
_CERTIFICATE: Final = re.compile(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/.+")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RESERVATION: Final = re.compile(r"cr-[0-9a-f]{8,17}")


@dataclass(frozen=True, kw_only=True)
class InstancePool:
    """GPU nodes of one kind, and how many of them there are: one entry of `gpu_pools` on a public site."""

    name: str
    instance_types: tuple[str, ...] = ("g6.xlarge", "g5.xlarge", "g4dn.xlarge")
    """In order of preference; on demand EKS takes the first that has capacity."""
    capacity: str = ON_DEMAND
    """on-demand or spot."""
    image: str = AL2023
    """The nodes' AMI type: AL2023_x86_64_NVIDIA or BOTTLEROCKET_x86_64_NVIDIA."""
    min: int = 0
    """Fewest nodes; what the site can be counted on for, unless they are spot."""
    desired: int = 2
    max: int = 2
    autoscaled: bool = False
    """Whether the cluster autoscaler moves the number between min and max; then desired is where it starts."""
    disk_gib: int = 100
    labels: dict[str, str] = field(default_factory=dict)
    reserve_in: str = ""
    """Zone in which `min` instances of the one type are reserved; nodes above it are on demand. Empty for none."""
    reservation: str = ""
    """Id of a capacity reservation that exists (cr-...), which every node is taken from; empty for none."""

    def check(self, key: str, zones: tuple[str, ...]) -> None:
        """Raise SettingError, naming the entry `key`, unless the nodes can be made and counted."""
        checks.label(f"{key}.name", self.name, naming.POOL_LIMIT)
        if not self.instance_types:
            raise SettingError(f"{key}.instance_types is empty; a pool has a type at least: name one, like g6.xlarge")
        for each in self.instance_types:
            gpus_of(each)
        checks.one_of(f"{key}.capacity", self.capacity, (ON_DEMAND, SPOT))
        checks.one_of(f"{key}.image", self.image, (AL2023, BOTTLEROCKET))
        checks.between(f"{key}.max", self.max, 1, 450)
        checks.between(f"{key}.min", self.min, 0, self.max)
        checks.between(f"{key}.desired", self.desired, self.min, self.max)
        checks.between(f"{key}.disk_gib", self.disk_gib, 50, 16384)
        if self.autoscaled and self.min == self.max:
            raise SettingError(
                f"{key}.autoscaled is true with min and max both {self.max}; there is nothing to scale between:"
                " raise max, lower min, or set autoscaled to false"
            )
        self._check_reservation(key, zones)

    def _check_reservation(self, key: str, zones: tuple[str, ...]) -> None:
        if not self.reserve_in and not self.reservation:
            return
        if self.reserve_in and self.reservation:
            raise SettingError(
                f"{key} sets reserve_in and reservation; a pool takes its nodes from one reservation: leave one out"
            )
        if self.capacity == SPOT or len(self.instance_types) != 1:
            raise SettingError(
                f"{key} has a reservation, capacity {self.capacity} and {len(self.instance_types)} instance types; what"
                " is reserved is on demand and of one type: set capacity to on-demand and name one type"
            )
        if self.reserve_in:
            checks.one_of(f"{key}.reserve_in", self.reserve_in, zones)
            checks.between(f"{key}.min, which is reserved,", self.min, 1, self.max)
        elif not _RESERVATION.fullmatch(self.reservation):
            raise SettingError(
                f"{key}.reservation is {self.reservation!r}; it is the id of a capacity reservation: write it like"
                " cr-0123456789abcdef0"
            )

    @property
    def firm_gpus(self) -> int:
        """GPUs of the nodes that are there whatever happens on the spot market, with the least of its types."""
        return 0 if self.capacity == SPOT else self.min * min(gpus_of(each) for each in self.instance_types)


@dataclass(frozen=True, kw_only=True)
class AccessEntry:
    """Who may do what with the cluster: one entry of `access_entries`."""

    principal: str
    """ARN of a role or user."""
    policy: str = "AmazonEKSViewPolicy"
    namespaces: tuple[str, ...] = ()
    """Where it holds; none named means the whole cluster."""

    def check(self, key: str) -> None:
        """Raise SettingError, naming the entry `key`, unless it names a principal and a policy of EKS."""
        if not _PRINCIPAL.fullmatch(self.principal):
            raise SettingError(
                f"{key}.principal is {self.principal!r}; it is the ARN of a role or user: write it like"
                " arn:aws:iam::111122223333:role/operators"
            )
        checks.one_of(f"{key}.policy", self.policy, ACCESS_POLICIES)
        if self.policy == "AmazonEKSClusterAdminPolicy" and self.namespaces:
            raise SettingError(
                f"{key}.namespaces is set with {self.policy}; that one is for the whole cluster: choose"
                " AmazonEKSAdminPolicy for a namespace, or leave the namespaces out"
            )
        for namespace in self.namespaces:
            checks.label(f"{key}.namespaces", namespace)


@dataclass(frozen=True, kw_only=True)
class PublicPoolSettings(NodeGrace, AwsSettings):
    """`pool-<site>` of a public cloud: EKS behind a network load balancer."""

    layer: ClassVar[str] = "pool"
    services: ClassVar[tuple[str, ...]] = ("ec2", "eks", "elbv2", "iam", "kms", "logs", "sts")

    site: str
    kind: str
    cluster_name: str
    vpc_cidr: str = "10.0.0.0/16"
    zones: tuple[str, ...]
    """Of the subnets: those that are made, or, in the order of their ids, those that exist."""
    vpc_id: str = ""
    """A network that exists; empty for one of this site's own."""
    public_subnet_ids: tuple[str, ...] = ()
    private_subnet_ids: tuple[str, ...] = ()
    flow_log_days: int = 90
    """How long it is kept who talked to whom in a network of this site's own; 0 for no flow log."""
    kubernetes_version: str
    """x.y, as EKS wants it."""
    kubernetes_support: str = EXTENDED
    """What happens when AWS's standard support of the version ends: extended, or standard, which upgrades it."""
    deletion_protection: bool = True
    """Whether EKS itself refuses to delete the cluster, as long as `protect` holds."""
    api_allowed_cidrs: tuple[str, ...] = ()
    """Networks that reach the Kubernetes API from outside; none keeps it inside the VPC."""
    access_entries: tuple[AccessEntry, ...] = ()
    creator_is_admin: bool = True
    """Whether whoever creates the cluster administers it; without it an access entry has to."""
    addons: dict[str, str] = field(default_factory=dict)
    """Version of an EKS add-on by its name, where the default for the cluster's version is not meant."""
    addons_elsewhere: tuple[str, ...] = ()
    """Add-ons that something else installs."""
    system_instance_type: str = "m7i.large"
    system_nodes: int = 2
    gpu_pools: tuple[InstancePool, ...] = ()
    workload_namespace: str = "tandem"
    """Namespace of the pods that get a role: the `namespace` of the platform stack."""
    copies_watched: bool = False
    """Whether an exporter in the cluster may read how far S3's copies of this site lag."""
    edge_port: int = 443
    edge_certificate: str = ""
    """ARN of the certificate the edge ends TLS with; empty where the gateways do, or nobody does."""
    edge_log_bucket: str = ""
    """Bucket that takes the edge's access log, with a policy that lets it be delivered; empty for no such log."""
    edge_deregistration_seconds: int = 30
    """How long a gateway that leaves still gets what is under way to it; it waits for that before it ends."""
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
        self._check_network()
        self._check_pools()
        self._check_access()
        for name in (*self.addons, *self.addons_elsewhere):
            checks.one_of("add-on", name, ADDONS)
        checks.label("workload_namespace", self.workload_namespace)
        checks.version("kubernetes_version", self.kubernetes_version, parts=2)
        checks.one_of("kubernetes_support", self.kubernetes_support, (EXTENDED, STANDARD))
        checks.between("system_nodes", self.system_nodes, 1, 100)
        if self.edge_certificate and not _CERTIFICATE.fullmatch(self.edge_certificate):
            raise SettingError(
                f"edge_certificate is {self.edge_certificate!r}; it is the ARN of a certificate in {self.region}: take"
                " the one the traffic stack says"
            )
        if self.edge_log_bucket and not self.edge_certificate:
            raise SettingError(
                f"edge_log_bucket is {self.edge_log_bucket} and edge_certificate is empty; a network load balancer logs"
                " connections whose TLS it ends, and no others: set the certificate, or leave the bucket out"
            )
        if self.edge_log_bucket and not _BUCKET.fullmatch(self.edge_log_bucket):
            raise SettingError(
                f"edge_log_bucket is {self.edge_log_bucket!r}; it is the name of a bucket: write it like tandem-audit"
            )
        checks.between("edge_deregistration_seconds", self.edge_deregistration_seconds, 0, 300)
        checks.between("edge_port", self.edge_port, 1, 65535)
        checks.between("gateway_port", self.gateway_port, 1024, 65535)
        checks.one_of("cluster_authentication", self.cluster_authentication, ("aws-cli", "none"))
        self.check_grace()

    def _check_network(self) -> None:
        subnets = (self.public_subnet_ids, self.private_subnet_ids)
        if not self.vpc_id and any(subnets):
            raise SettingError(
                "subnet ids are set and vpc_id is not; they are of a network that exists: name that one too"
            )
        if self.vpc_id and any(len(each) != len(self.zones) for each in subnets):
            raise SettingError(
                f"vpc_id is {self.vpc_id} with {len(self.public_subnet_ids)} public and"
                f" {len(self.private_subnet_ids)} private subnets for the {len(self.zones)} zones; one that exists"
                " has one of each in every zone: list their ids in the order of zones"
            )
        if self.flow_log_days:
            checks.one_of("flow_log_days", str(self.flow_log_days), tuple(map(str, RETENTIONS)))

    def _check_pools(self) -> None:
        if not self.gpu_pools:
            raise SettingError("gpu_pools is empty; a site has a GPU pool at least: name one")
        names = [pool.name for pool in self.gpu_pools]
        if len(set(names)) != len(names):
            raise SettingError(f"gpu_pools has the names {names}; each is taken once: name them otherwise")
        for number, pool in enumerate(self.gpu_pools):
            pool.check(f"gpu_pools[{number}]", self.zones)

    def _check_access(self) -> None:
        principals = [entry.principal for entry in self.access_entries]
        for number, entry in enumerate(self.access_entries):
            entry.check(f"access_entries[{number}]")
        if len(set(principals)) != len(principals):
            raise SettingError(f"access_entries names {principals}; each principal has one entry: put them together")
        labels = [principal.rpartition("/")[2] for principal in principals]
        if len(set(labels)) != len(labels):
            raise SettingError(
                f"access_entries has principals that end alike: {sorted(labels)}; an entry is called by that end:"
                " give the roles names of their own"
            )
        admins = [entry for entry in self.access_entries if entry.policy == "AmazonEKSClusterAdminPolicy"]
        if not self.creator_is_admin and not admins:
            raise SettingError(
                "creator_is_admin is false and no access entry has AmazonEKSClusterAdminPolicy; nobody could ever"
                " change who may do what: give one principal that policy"
            )

    @property
    def firm_gpus(self) -> int:
        """GPUs of this site that are there whatever happens on the spot market."""
        return sum(pool.firm_gpus for pool in self.gpu_pools)


ADDONS: Final = ("vpc-cni", "kube-proxy", "coredns", "eks-pod-identity-agent", "metrics-server")
"""What every cluster here has; https://docs.aws.amazon.com/eks/latest/userguide/workloads-add-ons-available-eks.html"""
