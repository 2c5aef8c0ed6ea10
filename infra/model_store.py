"""Where a site keeps the models it serves."""

from __future__ import annotations

import pulumi
from pulumi import Output, ResourceOptions

from infra.bucket import BucketArgs, declare_bucket


class ModelStore(pulumi.ComponentResource):
    """A store in which a published model can be read again, byte for byte, whatever is written after it."""

    bucket: Output[str]

    def __init__(self, name: str, args: BucketArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:model_store:ModelStore", name, {}, opts)
        self.bucket = declare_bucket(f"{name}-models", args, ResourceOptions(parent=self))
        self.register_outputs({"bucket": self.bucket})
