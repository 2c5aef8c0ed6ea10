"""The KMS key of one bucket, and who may use it for what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pulumi import CustomResource, Input, Output, ResourceOptions
from pulumi_aws import kms

DELETION_DAYS: Final = 30
ADMINISTRATION: Final = (
    "kms:CancelKeyDeletion",
    "kms:Create*",
    "kms:Delete*",
    "kms:Describe*",
    "kms:Disable*",
    "kms:Enable*",
    "kms:Get*",
    "kms:List*",
    "kms:Put*",
    "kms:Revoke*",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:Update*",
)
USE: Final = ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*")


@dataclass(frozen=True, kw_only=True)
class BucketKey:
    """A key, usable once its policy stands."""

    arn: Output[str]
    policy: CustomResource


def declare_key(
    name: str,
    bucket: str,
    region: str,
    writers: Sequence[Input[str]],
    tags: dict[str, str],
    lasting: ResourceOptions,
    child: ResourceOptions,
) -> BucketKey:
    """A key that is rotated every year and opens objects through S3 only."""
    key = kms.Key(
        name,
        description=f"Objects of {bucket}",
        enable_key_rotation=True,
        deletion_window_in_days=DELETION_DAYS,
        tags=tags,
        opts=lasting,
    )
    kms.Alias(name, target_key_id=key.key_id, opts=child)
    own = kms.KeyPolicy(
        name,
        key_id=key.key_id,
        policy=Output.all(key.arn, *writers).apply(lambda known: document(known[0], region, known[1:])),
        opts=child,
    )
    # Nothing is encrypted under it before it is settled who may decrypt.
    return BucketKey(arn=Output.all(key.arn, own.id).apply(lambda known: str(known[0])), policy=own)


def document(arn: str, region: str, writers: Sequence[str] = ()) -> str:
    """The account's own policies say who administers the key and who uses it, and use goes through S3 alone.

    https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html#key-policy-default-allow-root-enable-iam
    """
    root = {"AWS": f"arn:aws:iam::{arn.split(':')[4]}:root"}
    through = {"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}}
    statements: list[dict[str, Any]] = [
        {
            "Sid": "Administration",
            "Effect": "Allow",
            "Principal": root,
            "Action": list(ADMINISTRATION),
            "Resource": "*",
        },
        {
            "Sid": "UseThroughS3",
            "Effect": "Allow",
            "Principal": root,
            "Action": list(USE),
            "Resource": "*",
            "Condition": through,
        },
    ]
    if writers:
        statements.append(
            {
                "Sid": "ReplicasOfAnotherAccount",
                "Effect": "Allow",
                "Principal": {"AWS": sorted(writers)},
                "Action": ["kms:Encrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": through,
            }
        )
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, sort_keys=True)
