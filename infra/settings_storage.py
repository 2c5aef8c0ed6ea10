"""The settings of `storage-<site>`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from infra import checkers, checks, naming
from infra.checks import SettingError
from infra.settings_base import KINDS, PRIVATE, AwsSettings


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
