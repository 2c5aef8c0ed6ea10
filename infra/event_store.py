"""Where a site keeps the behaviour its users leave: as it came, and with a pseudonym in the person's place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pulumi
from pulumi import Output, ResourceOptions

from infra.bucket import Bucket, BucketArgs, declare_bucket
from infra.bucket_life import Life
from infra.residency import DataClass


@dataclass(frozen=True, kw_only=True)
class EventStoreArgs:
    """The bucket of pseudonymised events, and the one of raw events beside it."""

    bucket: BucketArgs
    life: Life
    raw_life: Life | None
    """None where no raw events are kept: in a copy."""


class EventStore(pulumi.ComponentResource):
    """Events under keys of their own: who may read models may not read behaviour by that, nor raw behaviour by this."""

    bucket: Output[str]

    def __init__(self, name: str, args: EventStoreArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:event_store:EventStore", name, {}, opts)
        child = ResourceOptions(parent=self)
        # What names a person has to go when they ask for it: no lock.
        kept = replace(args.bucket, lock=None, life=args.life, classes=(DataClass.PSEUDONYMISED_EVENTS,))
        self.store: Bucket = declare_bucket(f"{name}-events", kept, child)
        self.raw: Bucket | None = None
        if args.raw_life is not None:
            raw = replace(kept, life=args.raw_life, classes=(DataClass.RAW_EVENTS,))
            self.raw = declare_bucket(f"{name}-raw-events", raw, child)
        self.bucket = self.store.name
        self.register_outputs({"bucket": self.bucket})
