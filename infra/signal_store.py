"""Where a site keeps the small objects an environment goes by: drain marks, the lock, snapshots of outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pulumi
from pulumi import Output, ResourceOptions

from infra.bucket import Bucket, BucketArgs, declare_bucket
from infra.residency import DataClass


@dataclass(frozen=True, kw_only=True)
class SignalStoreArgs:
    """The bucket, where it is reached, and who reads which of its objects without credentials."""

    bucket: BucketArgs
    region: str
    endpoint: str
    """S3 endpoint; empty for the region's own."""
    open_keys: str
    """Keys that are read without credentials; `*` stands for any rest."""
    reader_cidrs: tuple[str, ...]
    """Networks they are read from."""


class SignalStore(pulumi.ComponentResource):
    """A store whose open keys are read without credentials from listed networks only, and nothing else by anybody.

    A policy for fixed aws:SourceIp ranges is not public in S3's sense, so the public access block stays on
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html#access-control-block-public-access-policy-status).
    """

    bucket: Output[str]
    url: Output[str]

    def __init__(self, name: str, args: SignalStoreArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:signal_store:SignalStore", name, {}, opts)
        child = ResourceOptions(parent=self)
        # No key of its own: S3 decrypts under one for nobody who comes without credentials. No versions: a mark is
        # there or it is not.
        kind = replace(args.bucket, own_key=False, versioned=False, lock=None, classes=(DataClass.SIGNALS,))
        self.store: Bucket = declare_bucket(
            f"{name}-signals", kind, child, lambda arn: arn.apply(lambda known: [open_keys(known, args)])
        )
        self.bucket = self.store.name
        self.url = self.bucket.apply(lambda known: url(known, args))
        self.register_outputs({"bucket": self.bucket, "url": self.url})


def url(bucket: str, args: SignalStoreArgs) -> str:
    """Where an object of the bucket is read: by the bucket's own host on AWS, by its path at another store."""
    if args.endpoint:
        return f"{args.endpoint.rstrip('/')}/{bucket}"
    return f"https://{bucket}.s3.{args.region}.amazonaws.com"


def open_keys(bucket_arn: str, args: SignalStoreArgs) -> dict[str, Any]:
    """Who may read the open keys without credentials."""
    return {
        "Sid": "OpenKeys",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"{bucket_arn}/{args.open_keys}",
        "Condition": {"IpAddress": {"aws:SourceIp": sorted(set(args.reader_cidrs))}},
    }
