"""The one way an object store is declared here: private, encrypted, locked where asked, with an end for what is old.

No server access log is declared: it is delivered at best effort and needs a bucket that S3 itself may write to. Who
read what is a matter of the account's CloudTrail data events, out of reach of whoever may change these stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import CustomResource, Input, Output, ResourceOptions
from pulumi_aws import s3

from infra import bucket_policy, residency
from infra.bucket_key import BucketKey, declare_key
from infra.bucket_life import Life, Lock, rules
from infra.object_store import AWS, StoreKind
from infra.residency import DataClass

Statements = Callable[[Output[str]], Input[Sequence[dict[str, Any]]]]
"""From a bucket's ARN to what its policy says beside the usual."""
DELETION_DAYS: Final = 30


@dataclass(frozen=True, kw_only=True)
class BucketArgs:
    """How a bucket differs from the next one."""

    region: str
    kind: StoreKind = AWS
    classes: tuple[DataClass, ...] = ()
    """What it may hold; its tag says so, and there is no bucket without."""
    own_key: bool = True
    """Encrypt with a KMS key of its own, where the store has a key service; else the store encrypts by itself."""
    versioned: bool = True
    tls: bool = True
    """Refuse what comes without TLS; false for a store that speaks none."""
    lock: Lock | None = None
    """How long nobody deletes what was written; it cannot be added later, or taken away."""
    life: Life = field(default_factory=Life)
    writers: tuple[Input[str], ...] = ()
    """ARNs of identities of another account that put replicas here and use the key for that."""
    force_destroy: bool = False
    protect: bool = True
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lock and not self.versioned:
            raise ValueError(
                f"lock is {self.lock} and versioned is false; object lock keeps versions: keep them, or lock nothing"
            )

    @property
    def keyed(self) -> bool:
        """Whether there is a key of its own."""
        return self.own_key and self.kind.own_keys


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket all of whose settings stand."""

    name: Output[str]
    arn: Output[str]
    key_arn: Output[str]
    """Of its KMS key; empty where the store encrypts by itself."""
    locked: bool
    settings: tuple[CustomResource, ...]


def declare_bucket(name: str, args: BucketArgs, child: ResourceOptions, statements: Statements | None = None) -> Bucket:
    """The bucket, whose name is readable once all its settings stand, so nothing is written before them."""
    # Losing a bucket or its key loses what no program can make again.
    lasting = ResourceOptions.merge(child, ResourceOptions(protect=args.protect))
    tags = {**args.tags, **residency.tags(args.classes)}
    bucket = s3.Bucket(
        name,
        force_destroy=args.force_destroy,
        # Cannot be switched on later without a new bucket.
        object_lock_enabled=True if args.lock else None,
        tags=tags,
        opts=lasting,
    )
    key = declare_key(f"{name}-key", name, args.region, args.writers, tags, lasting, child) if args.keyed else None
    access = s3.BucketPublicAccessBlock(
        f"{name}-access",
        bucket=bucket.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=child,
    )
    arn = bucket.bucket.apply(bucket_policy.arn)
    own = statements(arn) if statements else []
    settings: list[CustomResource] = [
        access,
        s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption", bucket=bucket.bucket, rules=[_encryption(key)], opts=child
        ),
        s3.BucketPolicy(
            f"{name}-policy",
            bucket=bucket.bucket,
            policy=Output.all(arn, own).apply(lambda known: bucket_policy.document(known[0], known[1], tls=args.tls)),
            # The block refuses a policy for everybody; let it be there first.
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[access])),
        ),
    ]
    if args.kind.ownership_controls:
        settings.append(
            s3.BucketOwnershipControls(
                f"{name}-ownership",
                bucket=bucket.bucket,
                rule=s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
                opts=child,
            )
        )
    settings += _versions(name, args, bucket.bucket, child)
    ready = Output.all(bucket.bucket, *(setting.id for setting in settings)).apply(lambda known: str(known[0]))
    return Bucket(
        name=ready,
        arn=ready.apply(bucket_policy.arn),
        key_arn=key.arn if key else pulumi.Output.from_input(""),
        locked=args.lock is not None,
        settings=tuple(settings),
    )


def _versions(name: str, args: BucketArgs, bucket: Output[str], child: ResourceOptions) -> list[CustomResource]:
    """What becomes of versions: kept, locked, moved, expired."""
    made: list[CustomResource] = []
    if args.versioned:
        made.append(
            s3.BucketVersioning(
                f"{name}-versioning",
                bucket=bucket,
                versioning_configuration=s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
                opts=child,
            )
        )
    # Both are read together with the versioning of the bucket.
    after = ResourceOptions.merge(child, ResourceOptions(depends_on=list(made)))
    if args.lock:
        made.append(
            s3.BucketObjectLockConfiguration(
                f"{name}-lock",
                bucket=bucket,
                rule=s3.BucketObjectLockConfigurationRuleArgs(
                    default_retention=s3.BucketObjectLockConfigurationRuleDefaultRetentionArgs(
                        mode=args.lock.mode.upper(), days=args.lock.days
                    )
                ),
                opts=after,
            )
        )
    cold_class = args.kind.cold_class
    made.append(
        s3.BucketLifecycleConfiguration(
            f"{name}-life",
            bucket=bucket,
            rules=rules(args.life, versioned=args.versioned, cold_class=cold_class),
            opts=after,
        )
    )
    return made


def _encryption(key: BucketKey | None) -> s3.BucketServerSideEncryptionConfigurationRuleArgs:
    if key is None:
        default = s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="AES256"
        )
        return s3.BucketServerSideEncryptionConfigurationRuleArgs(apply_server_side_encryption_by_default=default)
    return s3.BucketServerSideEncryptionConfigurationRuleArgs(
        apply_server_side_encryption_by_default=s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="aws:kms", kms_master_key_id=key.arn
        ),
        # One data key per bucket and hour instead of one per object: the key service is neither bill nor bottleneck.
        bucket_key_enabled=True,
    )
