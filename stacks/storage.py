"""`storage-<site>`: where a site keeps models and events."""

from __future__ import annotations

from typing import Any

from pulumi import ResourceOptions

from infra import naming
from infra.bucket import BucketArgs
from infra.event_store import EventStore
from infra.model_store import ModelStore
from infra.settings import PUBLIC, StorageSettings
from stacks import contract, providers


def declare(stack: contract.StackName, settings: StorageSettings) -> dict[str, Any]:
    """Both stores of the site, in the object store its settings name."""
    opts = ResourceOptions(provider=providers.cloud(stack, settings))
    args = BucketArgs(
        own_key=settings.kind == PUBLIC,
        force_destroy=settings.force_destroy,
        protect=settings.protect,
        tags=naming.tags(settings.site),
    )
    models = ModelStore(settings.site, args, opts)
    EventStore(settings.site, args, opts)
    return {
        "site": settings.site,
        "region": settings.region,
        "endpoint": settings.aws_endpoints.get("s3", ""),
        "model_bucket": models.bucket,
    }
