"""The one way an object store is declared here: private, encrypted and, unless told otherwise, every version kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from pulumi import CustomResource, Output, ResourceOptions
from pulumi_aws import kms, s3


@dataclass(frozen=True, kw_only=True)
class BucketArgs:
    """How a bucket differs from the next one."""

    own_key: bool = True
    """Encrypt with a KMS key of its own; false where the store has no key service and encrypts by itself."""
    versioned: bool = True
    force_destroy: bool = False
    protect: bool = True
    tags: dict[str, str] = field(default_factory=dict)


def declare_bucket(name: str, args: BucketArgs, child: ResourceOptions) -> Output[str]:
    """The bucket's name, readable once all its settings stand, so nothing is written before them."""
    # Losing a bucket or its key loses what no program can make again.
    lasting = ResourceOptions.merge(child, ResourceOptions(protect=args.protect))
    bucket = s3.Bucket(name, force_destroy=args.force_destroy, tags=args.tags, opts=lasting)
    settings: list[CustomResource] = [
        s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket.bucket,
            rules=[_encryption(name, args, child, lasting)],
            opts=child,
        ),
        s3.BucketPublicAccessBlock(
            f"{name}-access",
            bucket=bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child,
        ),
        s3.BucketOwnershipControls(
            f"{name}-ownership",
            bucket=bucket.bucket,
            rule=s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=child,
        ),
    ]
    if args.versioned:
        versioning = s3.BucketVersioning(
            f"{name}-versioning",
            bucket=bucket.bucket,
            versioning_configuration=s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
            opts=child,
        )
        settings.append(versioning)
    return Output.all(bucket.bucket, *(setting.id for setting in settings)).apply(lambda known: str(known[0]))


def _encryption(
    name: str, args: BucketArgs, child: ResourceOptions, lasting: ResourceOptions
) -> s3.BucketServerSideEncryptionConfigurationRuleArgs:
    if not args.own_key:
        default = s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="AES256"
        )
        return s3.BucketServerSideEncryptionConfigurationRuleArgs(apply_server_side_encryption_by_default=default)
    key = kms.Key(
        f"{name}-key",
        description=f"Objects of {name}",
        enable_key_rotation=True,
        deletion_window_in_days=30,
        tags=args.tags,
        opts=lasting,
    )
    kms.Alias(f"{name}-key", target_key_id=key.key_id, opts=child)
    return s3.BucketServerSideEncryptionConfigurationRuleArgs(
        apply_server_side_encryption_by_default=s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="aws:kms", kms_master_key_id=key.arn
        ),
        # One data key per bucket and hour instead of one per object: the key service is neither bill nor bottleneck.
        bucket_key_enabled=True,
    )
