"""Where a site keeps the models it serves."""

from __future__ import annotations

from dataclasses import replace

import pulumi
from pulumi import Output, ResourceOptions

from infra.bucket import Bucket, BucketArgs, declare_bucket
from infra.residency import DataClass

CLASSES = (DataClass.MODELS, DataClass.ITEMS)
"""A model's package carries the titles of the items it ranks."""


class ModelStore(pulumi.ComponentResource):
    """A store in which a published model can be read again, byte for byte, whatever is written after it.

    A lock keeps versions, not names: a plain PUT over a key is taken and read from then on. So versions are written on
    the condition that nothing is there, and read back (serving/store.py).
    """

    bucket: Output[str]

    def __init__(self, name: str, args: BucketArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:model_store:ModelStore", name, {}, opts)
        kept = replace(args, classes=CLASSES)
        self.store: Bucket = declare_bucket(f"{name}-models", kept, ResourceOptions(parent=self))
        self.bucket = self.store.name
        self.register_outputs({"bucket": self.bucket})
