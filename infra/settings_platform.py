"""The settings of `platform-<site>`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from infra import checks, naming
from infra.settings_base import Settings


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
