"""The settings of each layer, read once, checked before any resource exists; nothing else reads pulumi.Config."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from infra import checks, naming
from infra.settings_base import KINDS, PRIVATE, PUBLIC, AwsSettings, Settings, required
from infra.settings_platform import PlatformSettings
from infra.settings_pool import PrivatePoolSettings
from infra.settings_pool_public import PublicPoolSettings
from infra.settings_serving import ServingSettings
from infra.settings_storage import StorageSettings
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
