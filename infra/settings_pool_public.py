"""The settings of `pool-<site>` of a public cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from infra import checks, naming
from infra.checks import SettingError
from infra.settings_base import AwsSettings
from infra.settings_pool import GpuNodes


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
