"""The settings of each layer, read once, checked before any resource exists; nothing else reads pulumi.Config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Final, Self, get_type_hints

import pulumi

from infra import checks, naming
from infra.checks import SettingError

PRIVATE: Final = "private"
PUBLIC: Final = "public"
KINDS: Final = (PRIVATE, PUBLIC)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every layer's settings have in common: how they are read."""

    layer: ClassVar[str]

    @classmethod
    def read(cls, config: pulumi.Config, **known: str) -> Self:
        """Every field from its key of `config`, except what the stack's name already says."""
        kinds = get_type_hints(cls)
        values: dict[str, Any] = dict(known)
        for entry in cls.declared():
            raw = config.get(entry.name)
            if raw is None or raw == "":
                if required(entry):
                    raise SettingError(
                        f"{entry.name} has no value; a {cls.layer} stack needs one: set {naming.PROJECT}:{entry.name}"
                        " in the stack's settings file"
                    )
                continue
            values[entry.name] = checks.parse(entry.name, raw, kinds[entry.name])
        return cls(**values)

    @classmethod
    def declared(cls) -> tuple[Field[Any], ...]:
        """The fields that are configuration keys."""
        return tuple(entry for entry in fields(cls) if entry.name != "site")


def required(entry: Field[Any]) -> bool:
    """Whether a stack's settings file has to give this key a value."""
    return entry.default is MISSING and entry.default_factory is MISSING


@dataclass(frozen=True, kw_only=True)
class AwsSettings(Settings):
    """How a stack reaches an AWS API, or one that speaks like it."""

    services: ClassVar[tuple[str, ...]]

    region: str
    aws_endpoints: dict[str, str] = field(default_factory=dict)
    """Service to URL; a service not named is reached at AWS's own endpoint."""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    protect: bool = True
    """Whether what would be missed most refuses to be deleted."""

    def __post_init__(self) -> None:
        checks.region("region", self.region)
        checks.endpoints("aws_endpoints", self.aws_endpoints, self.services)
        checks.credentials(self.access_key, self.secret_key)


@dataclass(frozen=True, kw_only=True)
class StorageSettings(AwsSettings):
    """`storage-<site>`."""

    layer: ClassVar[str] = "storage"
    services: ClassVar[tuple[str, ...]] = ("kms", "s3", "sts")

    site: str
    kind: str
    force_destroy: bool = False
    """Whether deleting a bucket deletes the objects in it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.one_of("kind", self.kind, KINDS)
        if self.kind == PRIVATE and "s3" not in self.aws_endpoints:
            raise SettingError(
                "aws_endpoints has no s3; a private site keeps its data in its own object store:"
                " set aws_endpoints.s3 to that store's URL"
            )
        if self.protect and self.force_destroy:
            raise SettingError(
                "force_destroy and protect are both true; a protected bucket is not emptied on deletion:"
                " set one of them to false"
            )


@dataclass(frozen=True, kw_only=True)
class GpuNodes:
    """How many GPU nodes a pool has, and between which bounds it may grow and shrink."""

    gpu_nodes: int = 2
    gpu_nodes_min: int = 0
    gpu_nodes_max: int = 2

    def check_nodes(self) -> None:
        """Raise SettingError unless 0 <= min <= nodes <= max and max > 0."""
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


@dataclass(frozen=True, kw_only=True)
class PlatformSettings(Settings):
    """`platform-<site>`."""

    layer: ClassVar[str] = "platform"

    site: str
    namespace: str = "tandem"
    device_plugin_image: str
    gpu_quota: int = 2
    """GPUs the namespace may request in all."""

    def __post_init__(self) -> None:
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.label("namespace", self.namespace)
        checks.image("device_plugin_image", self.device_plugin_image)
        checks.between("gpu_quota", self.gpu_quota, 0, 10000)


@dataclass(frozen=True, kw_only=True)
class ServingSettings(Settings):
    """`serving-<site>`."""

    layer: ClassVar[str] = "serving"

    site: str
    kind: str
    triton_image: str
    serving_image: str
    model_name: str = "recommender"
    model_digest: str
    backend: str = "gpu"
    """Which configuration of the model package Triton takes."""
    gpus_per_pod: int = 1
    triton_replicas: int = 2
    triton_cpu: str = "2"
    triton_memory: str = "8Gi"
    gateway_replicas: int = 2
    gateway_cpu: str = "500m"
    gateway_memory: str = "512Mi"
    gateway_port: int = 8080
    edge_port: int = 443
    """Port users reach the site at."""
    golden_interval_seconds: int = 2
    inference_timeout_seconds: float = 1.0
    """How long the gateway waits for Triton."""
    rollout_timeout_seconds: int = 600
    """How long an `up` waits for new pods before it fails and says what keeps them."""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.one_of("kind", self.kind, KINDS)
        checks.image("triton_image", self.triton_image)
        checks.image("serving_image", self.serving_image)
        checks.label("model_name", self.model_name)
        checks.digest("model_digest", self.model_digest)
        checks.one_of("backend", self.backend, ("cpu", "gpu"))
        checks.between("gpus_per_pod", self.gpus_per_pod, 1 if self.backend == "gpu" else 0, 16)
        checks.between("triton_replicas", self.triton_replicas, 1, 1000)
        checks.between("gateway_replicas", self.gateway_replicas, 1, 1000)
        checks.quantities("triton", self.triton_cpu, self.triton_memory)
        checks.quantities("gateway", self.gateway_cpu, self.gateway_memory)
        checks.between("gateway_port", self.gateway_port, 1024, 65535)
        checks.between("edge_port", self.edge_port, 1, 65535)
        checks.between("golden_interval_seconds", self.golden_interval_seconds, 1, 60)
        checks.between("inference_timeout_seconds", self.inference_timeout_seconds, 0.05, 60)
        checks.between("rollout_timeout_seconds", self.rollout_timeout_seconds, 10, 3600)
        checks.credentials(self.access_key, self.secret_key)


@dataclass(frozen=True, kw_only=True)
class TrafficSettings(AwsSettings):
    """`traffic`."""

    layer: ClassVar[str] = "traffic"
    services: ClassVar[tuple[str, ...]] = ("route53", "sts")

    zone_name: str
    service_name: str
    sites: dict[str, int] = field(default_factory=dict)
    """Site to weight; every site is named."""
    alias_sites: tuple[str, ...] = ()
    """Sites whose records are aliases of their load balancer; the others' records hold the edge's address."""
    ttl_seconds: int = 30
    health_interval_seconds: int = 10
    health_threshold: int = 2
    scheme: str = "https"
    port: int = 443
    resolver: str = ""
    request_timeout_seconds: float = 2.0
    """What a client waits for one answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.dns_name("zone_name", self.zone_name)
        checks.dns_name("service_name", self.service_name)
        if not self.service_name.endswith(f".{self.zone_name}"):
            raise SettingError(
                f"service_name is {self.service_name!r}; it lies inside the zone {self.zone_name!r}:"
                f" write it like recommend.{self.zone_name}"
            )
        checks.weights("sites", self.sites)
        for site in self.sites:
            checks.dns_name(f"name of site {site}", naming.site_host(site, self.service_name))
        for site in self.alias_sites:
            checks.one_of("site in alias_sites", site, self.sites)
        checks.between("ttl_seconds", self.ttl_seconds, 1, 60)
        checks.one_of("health_interval_seconds", str(self.health_interval_seconds), ("10", "30"))
        checks.between("health_threshold", self.health_threshold, 1, 10)
        checks.one_of("scheme", self.scheme, ("http", "https"))
        checks.between("port", self.port, 1, 65535)
        if self.resolver:
            checks.host_port("resolver", self.resolver)
        checks.between("request_timeout_seconds", self.request_timeout_seconds, 0.05, 60)


def read(layer: str, site: str | None) -> Settings:
    """The checked settings of the stack that is being run."""
    config = pulumi.Config(naming.PROJECT)
    if layer == TrafficSettings.layer or site is None:
        return TrafficSettings.read(config)
    if layer == "pool":
        kind = config.get("kind") or ""
        checks.one_of("kind", kind, KINDS)
        pool = PrivatePoolSettings if kind == PRIVATE else PublicPoolSettings
        return pool.read(config, site=site)
    by_layer: Mapping[str, type[Settings]] = {
        entry.layer: entry for entry in (StorageSettings, PlatformSettings, ServingSettings)
    }
    return by_layer[layer].read(config, site=site)
