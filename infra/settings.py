"""The settings of each layer, read once, checked before any resource exists; nothing else reads pulumi.Config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pulumi

from infra import checkers, checks, naming
from infra.checks import SettingError
from infra.settings_base import KINDS, PRIVATE, PUBLIC, AwsSettings, Settings, required
from infra.settings_pool import PrivatePoolSettings, PublicPoolSettings
from infra.settings_traffic import TrafficSettings

__all__ = [
    "KINDS",
    "PRIVATE",
    "PUBLIC",
    "AwsSettings",
    "PlatformSettings",
    "PrivatePoolSettings",
    "PublicPoolSettings",
    "ServingSettings",
    "Settings",
    "StorageSettings",
    "TrafficSettings",
    "read",
    "required",
]


@dataclass(frozen=True, kw_only=True)
class StorageSettings(AwsSettings):
    """`storage-<site>`."""

    layer: ClassVar[str] = "storage"
    services: ClassVar[tuple[str, ...]] = ("kms", "s3", "sts")

    site: str
    kind: str
    force_destroy: bool = False
    """Whether deleting a bucket deletes the objects in it."""
    checker_cidrs: tuple[str, ...] = checkers.NETWORKS
    """Networks the health checkers read drain marks from."""
    gateway_cidrs: tuple[str, ...] = ()
    """Networks the store sees the site's gateways come from; without them gateways read no drain mark."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.one_of("kind", self.kind, KINDS)
        checks.networks("checker_cidrs", self.checker_cidrs)
        if self.gateway_cidrs:
            checks.networks("gateway_cidrs", self.gateway_cidrs)
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
class PlatformSettings(Settings):
    """`platform-<site>`."""

    layer: ClassVar[str] = "platform"

    site: str
    namespace: str = "tandem"
    device_plugin_image: str
    gpu_quota: int = 2
    """GPUs the namespace may request in all."""
    lease_image: str
    """What a drill's undo runs in."""
    machines_in_cluster: bool = False
    """Whether this cluster also holds the switches of its own machines, so that a drill's undo may use them."""

    def __post_init__(self) -> None:
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.label("namespace", self.namespace)
        checks.image("device_plugin_image", self.device_plugin_image)
        checks.image("lease_image", self.lease_image)
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
    accepted_digests: tuple[str, ...] = ()
    """Versions an answer may name; none means the served one. During a rollout both stand here."""
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
    concurrency_limit: int = 64
    """Requests one gateway pod has in flight at most; what comes on top is shed."""
    golden_interval_seconds: int = 2
    hold_down_seconds: int = 30
    """How long golden answers have to be right again before a site that was ill is well."""
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
        self._check_digests()
        checks.one_of("backend", self.backend, ("cpu", "gpu"))
        checks.between("gpus_per_pod", self.gpus_per_pod, 1 if self.backend == "gpu" else 0, 16)
        checks.between("triton_replicas", self.triton_replicas, 1, 1000)
        checks.between("gateway_replicas", self.gateway_replicas, 1, 1000)
        checks.quantities("triton", self.triton_cpu, self.triton_memory)
        checks.quantities("gateway", self.gateway_cpu, self.gateway_memory)
        checks.between("gateway_port", self.gateway_port, 1024, 65535)
        checks.between("edge_port", self.edge_port, 1, 65535)
        checks.between("concurrency_limit", self.concurrency_limit, 1, 10_000)
        checks.between("golden_interval_seconds", self.golden_interval_seconds, 1, 60)
        checks.between("hold_down_seconds", self.hold_down_seconds, 0, 600)
        checks.between("inference_timeout_seconds", self.inference_timeout_seconds, 0.05, 60)
        checks.between("rollout_timeout_seconds", self.rollout_timeout_seconds, 10, 3600)
        checks.credentials(self.access_key, self.secret_key)

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every version an answer may name: the served one, then the others in order."""
        return (self.model_digest, *sorted(set(self.accepted_digests) - {self.model_digest}))

    def _check_digests(self) -> None:
        checks.digest("model_digest", self.model_digest)
        for digest in self.accepted_digests:
            checks.digest("digest in accepted_digests", digest)
        if self.accepted_digests and self.model_digest not in self.accepted_digests:
            raise SettingError(
                f"accepted_digests is {list(self.accepted_digests)}; without the served version, model_digest"
                f" {self.model_digest}, every answer would count as wrong: add it"
            )


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
