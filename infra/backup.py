"""Copies nobody deletes before their time: in a second region, and in a second account where a setting says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions

from infra.bucket import Bucket, BucketArgs, declare_bucket
from infra.residency import DataClass

WRITING: Final = ("s3:ObjectOwnerOverrideToBucketOwner", "s3:ReplicateObject", "s3:ReplicateTags")
TAKING_AWAY: Final = (
    "s3:BypassGovernanceRetention",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:ReplicateDelete",
)
RECONFIGURING: Final = (
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
)


@dataclass(frozen=True, kw_only=True)
class BackupArgs:
    """What is copied, and who writes it."""

    bucket: BucketArgs
    """With a lock."""
    classes: tuple[DataClass, ...]
    """What the source may hold."""
    writer: Input[str]
    """ARN of the role S3 copies as."""
    other_account: bool
    """Whether the writer belongs to another account than the backup."""

    def __post_init__(self) -> None:
        if self.bucket.lock is None:
            raise ValueError("a backup has no lock; what deletes the site could delete it too: set lock_days above 0")


class Backup(pulumi.ComponentResource):
    """What was copied here stays, whatever becomes of the site and of whoever may change it.

    In the site's own account only the lock keeps it. In another account nobody of the site's account deletes, unlocks
    or reconfigures anything either: the key to the site is not the key to its backup.
    """

    bucket: Output[str]

    def __init__(self, name: str, args: BackupArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:backup:Backup", name, {}, opts)
        kept = replace(
            args.bucket,
            classes=(*args.classes, DataClass.BACKUPS),
            writers=(args.writer,) if args.other_account else (),
        )

        def of_another_account(arn: Output[str]) -> Output[Sequence[dict[str, Any]]]:
            return Output.all(arn, args.writer).apply(lambda known: statements(*known))

        self.store: Bucket = declare_bucket(
            f"{name}-backup", kept, ResourceOptions(parent=self), of_another_account if args.other_account else None
        )
        self.bucket = self.store.name
        self.register_outputs({"bucket": self.bucket})


def statements(bucket_arn: str, writer: str) -> list[dict[str, Any]]:
    """The writer of another account adds copies; nobody of its account takes any away or changes the bucket."""
    account = writer.split(":")[4]
    others = {"StringEquals": {"aws:PrincipalAccount": account}}
    return [
        {
            "Sid": "Copies",
            "Effect": "Allow",
            "Principal": {"AWS": writer},
            "Action": list(WRITING),
            "Resource": f"{bucket_arn}/*",
        },
        {
            "Sid": "NothingIsTakenAway",
            "Effect": "Deny",
            "Principal": "*",
            "Action": list(TAKING_AWAY),
            "Resource": f"{bucket_arn}/*",
            "Condition": others,
        },
        {
            "Sid": "NothingIsReconfigured",
            "Effect": "Deny",
            "Principal": "*",
            "Action": list(RECONFIGURING),
            "Resource": bucket_arn,
            "Condition": others,
        },
    ]
