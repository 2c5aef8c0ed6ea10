"""Copies of what a site's buckets hold in a second region, made by S3 itself (replication of the second version).

What S3 could not copy it never tries again: it says so in the metric OperationsFailedReplication, for which there is an
alarm here, and on the object (`x-amz-replication-status: FAILED`). It copies bad bytes as faithfully as good ones, and
nothing that was there before the rule.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import CustomResource, Input, Output, ResourceOptions
from pulumi_aws import cloudwatch, iam, s3

from infra import residency
from infra.bucket import Bucket
from infra.residency import DataClass

TIME_CONTROL_MINUTES: Final = 15
"""S3 takes no other number (https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-time-control.html)."""
PERIOD_SECONDS: Final = 300
TRUST: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ],
    },
    sort_keys=True,
)


class ReplicationRole(pulumi.ComponentResource):
    """Whom S3 acts as when it copies one bucket; what it may do comes with the copies."""

    arn: Output[str]

    def __init__(self, name: str, tags: dict[str, str], opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:replication:ReplicationRole", name, {}, opts)
        self.role = iam.Role(
            f"{name}-replication", assume_role_policy=TRUST, tags=tags, opts=ResourceOptions(parent=self)
        )
        self.arn = self.role.arn
        self.register_outputs({"arn": self.arn})


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One place objects are copied to."""

    purpose: str
    """replica or backup: the rule's name."""
    bucket: Bucket
    region: str
    account: str = ""
    """The account of the bucket, where it is another one."""
    deletions: bool
    """Whether a deletion here hides the copy too."""


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Who is told of copies, by a topic in each region that S3 tells something in: an alarm reaches no other one."""

    failed: Input[str]
    """In the region of the source."""
    late: Input[str]
    """In the region of the copies."""


@dataclass(frozen=True, kw_only=True)
class ReplicationArgs:
    """Which bucket is copied, as whom, and where to."""

    source: Bucket
    source_region: str
    classes: tuple[DataClass, ...]
    """What the source may hold."""
    raw_events_may_leave: bool
    role: ReplicationRole
    copies: tuple[Copy, ...]
    topics: Topics | None = None
    """Who is told of what was not copied, and of what is late; without them there is no alarm."""
    there: ResourceOptions | None = None
    """The provider of the copies' region, for what is told there: in the source's account, as all of it."""
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        residency.check_may_leave(
            self.classes, "the bucket to be copied", raw_events_may_leave=self.raw_events_may_leave
        )
        if self.source.locked and not all(copy.bucket.locked for copy in self.copies):
            raise ValueError(
                "a locked bucket has a copy without object lock; S3 copies locks with the objects: lock the copy too"
            )


class Replication(pulumi.ComponentResource):
    """What is written here is in every copy within 15 minutes, or somebody is told."""

    def __init__(self, name: str, args: ReplicationArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:replication:Replication", name, {}, opts)
        child = ResourceOptions(parent=self)
        rights = iam.RolePolicy(
            f"{name}-replication",
            # Named, or one whose creation was cut short would stay beside the next.
            name="replication",
            role=args.role.role.name,
            policy=_rights(args),
            opts=child,
        )
        standing: list[CustomResource] = [rights, *args.source.settings]
        for copy in args.copies:
            standing += copy.bucket.settings
        s3.BucketReplicationConfig(
            f"{name}-replication",
            bucket=args.source.name,
            role=args.role.arn,
            rules=[_rule(priority, copy) for priority, copy in enumerate(args.copies, start=1)],
            # S3 refuses a rule to a bucket without versions, and one it has no right to fails object by object.
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=standing)),
        )
        if args.topics is not None:
            for copy in args.copies:
                _alarms(f"{name}-{copy.purpose}", args, args.topics, copy, child)
        self.register_outputs({})


def _rule(priority: int, copy: Copy) -> s3.BucketReplicationConfigRuleArgs:
    time = s3.BucketReplicationConfigRuleDestinationReplicationTimeTimeArgs(minutes=TIME_CONTROL_MINUTES)
    threshold = s3.BucketReplicationConfigRuleDestinationMetricsEventThresholdArgs(minutes=TIME_CONTROL_MINUTES)
    return s3.BucketReplicationConfigRuleArgs(
        id=copy.purpose,
        priority=priority,
        status="Enabled",
        filter=s3.BucketReplicationConfigRuleFilterArgs(prefix=""),
        delete_marker_replication=s3.BucketReplicationConfigRuleDeleteMarkerReplicationArgs(
            status="Enabled" if copy.deletions else "Disabled"
        ),
        source_selection_criteria=s3.BucketReplicationConfigRuleSourceSelectionCriteriaArgs(
            sse_kms_encrypted_objects=s3.BucketReplicationConfigRuleSourceSelectionCriteriaSseKmsEncryptedObjectsArgs(
                status="Enabled"
            )
        ),
        destination=s3.BucketReplicationConfigRuleDestinationArgs(
            bucket=copy.bucket.arn,
            account=copy.account or None,
            access_control_translation=(
                s3.BucketReplicationConfigRuleDestinationAccessControlTranslationArgs(owner="Destination")
                if copy.account
                else None
            ),
            encryption_configuration=s3.BucketReplicationConfigRuleDestinationEncryptionConfigurationArgs(
                replica_kms_key_id=copy.bucket.key_arn
            ),
            replication_time=s3.BucketReplicationConfigRuleDestinationReplicationTimeArgs(status="Enabled", time=time),
            metrics=s3.BucketReplicationConfigRuleDestinationMetricsArgs(status="Enabled", event_threshold=threshold),
        ),
    )


def _rights(args: ReplicationArgs) -> Output[str]:
    copies = [Output.all(copy.bucket.arn, copy.bucket.key_arn) for copy in args.copies]
    return Output.all(args.source.arn, args.source.key_arn, *copies).apply(
        lambda known: json.dumps(
            rights(known[0], known[1], args.source_region, known[2:], args.copies, locked=args.source.locked),
            sort_keys=True,
        )
    )


def rights(
    source: str,
    source_key: str,
    source_region: str,
    arns: Sequence[Sequence[str]],
    copies: Sequence[Copy],
    *,
    locked: bool,
) -> dict[str, Any]:
    """Read versions of the source for this purpose, write copies into the listed buckets; `arns` are bucket and key.

    The keys are used through S3 only, and for these buckets: under bucket keys the encryption context is the bucket's.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-config-for-kms-objects.html
    """
    reading = ["s3:GetObjectVersionAcl", "s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging"]
    if locked:
        reading += ["s3:GetObjectLegalHold", "s3:GetObjectRetention"]
    statements = [
        _allow("Configuration", ["s3:GetReplicationConfiguration", "s3:ListBucket"], source),
        _allow("Versions", sorted(reading), f"{source}/*"),
        _key("SourceKey", ["kms:Decrypt"], source_key, source, source_region),
    ]
    for copy, (bucket, key) in zip(copies, arns, strict=True):
        writing = ["s3:ReplicateObject", "s3:ReplicateTags"]
        if copy.deletions:
            writing.append("s3:ReplicateDelete")
        if copy.account:
            writing.append("s3:ObjectOwnerOverrideToBucketOwner")
        name = copy.purpose.capitalize()
        statements += [
            _allow(name, sorted(writing), f"{bucket}/*"),
            _key(f"{name}Key", ["kms:Encrypt", "kms:GenerateDataKey"], key, bucket, copy.region),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(name: str, actions: list[str], resource: str) -> dict[str, Any]:
    return {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resource}


def _key(name: str, actions: list[str], key: str, bucket: str, region: str) -> dict[str, Any]:
    condition = {
        "StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com", "kms:EncryptionContext:aws:s3:arn": bucket}
    }
    return {**_allow(name, actions, key), "Condition": condition}


def _alarms(name: str, args: ReplicationArgs, topics: Topics, copy: Copy, child: ResourceOptions) -> None:
    """What failed is told in the region of the source, how late a copy is in its own, at best effort.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html
    """
    dimensions: dict[str, Input[str]] = {
        "SourceBucket": args.source.name,
        "DestinationBucket": copy.bucket.name,
        "RuleId": copy.purpose,
    }
    there = ResourceOptions.merge(child, args.there)
    for state, metric, statistic, limit, says, topic, opts in (
        (
            "failed",
            "OperationsFailedReplication",
            "Sum",
            0,
            "was not copied and will not be: copy it with S3 Batch Replication",
            topics.failed,
            child,
        ),
        (
            "late",
            "ReplicationLatency",
            "Maximum",
            TIME_CONTROL_MINUTES * 60,
            "waits longer than replication time control allows",
            topics.late,
            there,
        ),
    ):
        cloudwatch.MetricAlarm(
            f"{name}-{state}",
            alarm_description=f"An object of {name} {says}.",
            namespace="AWS/S3",
            metric_name=metric,
            dimensions=dimensions,
            statistic=statistic,
            comparison_operator="GreaterThanThreshold",
            threshold=limit,
            period=PERIOD_SECONDS,
            evaluation_periods=1,
            # Of failures S3 tells only when there are some; of lags it may miss a few minutes.
            treat_missing_data="notBreaching",
            alarm_actions=[topic],
            tags=args.tags,
            opts=opts,
        )
