"""How long what lies in a bucket is kept, where it moves meanwhile, and until when nobody deletes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pulumi_aws import s3

GOVERNANCE: Final = "governance"
"""Whoever has s3:BypassGovernanceRetention may still delete."""
COMPLIANCE: Final = "compliance"
"""Nobody may, not even the account's root, until the time is over."""
MODES: Final = (GOVERNANCE, COMPLIANCE)
UPLOAD_DAYS: Final = 7
"""An upload in parts that took so long was given up."""


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Every version is kept for so many days after it was written."""

    mode: str
    days: int


@dataclass(frozen=True, kw_only=True)
class Life:
    """Days after which things happen to an object; 0 for never."""

    noncurrent_days: int = 30
    """From being replaced or deleted to being gone."""
    cold_days: int = 0
    """From being written to the cheaper class."""
    expire_days: int = 0
    """From being written to being deleted."""


def rules(life: Life, *, versioned: bool, cold_class: str) -> list[s3.BucketLifecycleConfigurationRuleArgs]:
    """One rule for each thing that happens, so that each shows alone in a preview; all for the whole bucket.

    What is locked is not deleted before its lock is over: S3 asks again until then.
    """
    everything = s3.BucketLifecycleConfigurationRuleFilterArgs(prefix="")
    made = [
        s3.BucketLifecycleConfigurationRuleArgs(
            id="uploads-given-up",
            status="Enabled",
            filter=everything,
            abort_incomplete_multipart_upload=s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                days_after_initiation=UPLOAD_DAYS
            ),
        )
    ]
    if life.cold_days and cold_class:
        made.append(
            s3.BucketLifecycleConfigurationRuleArgs(
                id="seldom-read",
                status="Enabled",
                filter=everything,
                transitions=[
                    s3.BucketLifecycleConfigurationRuleTransitionArgs(days=life.cold_days, storage_class=cold_class)
                ],
            )
        )
    if life.expire_days:
        made.append(
            s3.BucketLifecycleConfigurationRuleArgs(
                id="expired",
                status="Enabled",
                filter=everything,
                expiration=s3.BucketLifecycleConfigurationRuleExpirationArgs(days=life.expire_days),
            )
        )
    if versioned and life.noncurrent_days:
        made.append(
            s3.BucketLifecycleConfigurationRuleArgs(
                id="noncurrent",
                status="Enabled",
                filter=everything,
                noncurrent_version_expiration=s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
                    noncurrent_days=life.noncurrent_days
                ),
            )
        )
    return made
