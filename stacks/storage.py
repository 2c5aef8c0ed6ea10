"""`storage-<site>`: where a site keeps models, events and signals."""

from __future__ import annotations

from typing import Any

from pulumi import ResourceOptions

from infra import naming
from infra.bucket import BucketArgs
from infra.event_store import EventStore
from infra.model_store import ModelStore
from infra.settings import PUBLIC, StorageSettings
from infra.signal_store import SignalStore, SignalStoreArgs
from stacks import contract, providers


def declare(stack: contract.StackName, settings: StorageSettings) -> dict[str, Any]:
    """The stores of the site, in the object store its settings name."""
    opts = ResourceOptions(provider=providers.cloud(stack, settings))
    args = BucketArgs(
        own_key=settings.kind == PUBLIC,
        force_destroy=settings.force_destroy,
        protect=settings.protect,
        tags=naming.tags(settings.site),
    )
    models = ModelStore(settings.site, args, opts)
    EventStore(settings.site, args, opts)
    endpoint = settings.aws_endpoints.get("s3", "")
    signals = SignalStore(
        settings.site,
        SignalStoreArgs(
            bucket=args,
            region=settings.region,
            endpoint=endpoint,
            open_keys=contract.drain_key("*"),
            reader_cidrs=settings.checker_cidrs + settings.gateway_cidrs,
        ),
        opts,
    )
    return {
        "site": settings.site,
        "region": settings.region,
        "endpoint": endpoint,
        "model_bucket": models.bucket,
        "signal_bucket": signals.bucket,
        "signal_url": signals.url,
    }
