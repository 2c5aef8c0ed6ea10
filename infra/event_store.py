"""Where a site keeps the behaviour its users leave."""

from __future__ import annotations

import pulumi
from pulumi import Output, ResourceOptions

from infra.bucket import BucketArgs, declare_bucket


class EventStore(pulumi.ComponentResource):
    """A store for events, under a key of its own: who may read models may not read behaviour by that."""

    bucket: Output[str]

    def __init__(self, name: str, args: BucketArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:event_store:EventStore", name, {}, opts)
        self.bucket = declare_bucket(f"{name}-events", args, ResourceOptions(parent=self))
        self.register_outputs({"bucket": self.bucket})
