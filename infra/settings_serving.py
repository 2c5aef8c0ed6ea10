"""The settings of `serving-<site>`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from infra import checks, naming
from infra.checks import SettingError
from infra.settings_base import KINDS, Settings


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
