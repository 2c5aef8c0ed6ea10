"""S3: how long objects are kept, and until when nobody deletes them."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import Cloud, code_of
from lab.providers.aws.rules import known, one_of
from lab.providers.aws.s3_settings import BucketSetting, known_items
from lab.providers.aws.s3_wire import from_api, to_api
from lab.providers.errors import Failure

_COLD: Final = ("STANDARD_IA", "ONEZONE_IA")
_COLD_DAYS: Final = 30
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html"""
_STATES: Final = ("Enabled", "Disabled")


class BucketLifecycleConfiguration(BucketSetting):
    """What happens to objects with time; the lab keeps the rules and lets no time pass."""

    type_name = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
    replace_on = ("bucket", "expectedBucketOwner", "region")
    in_place = ("rules", "transitionDefaultMinimumObjectSize")
    blank: ClassVar = {"transitionDefaultMinimumObjectSize": "all_storage_classes_128K", "expectedBucketOwner": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        rules = known_items(inputs, "rules")
        names = [rule["id"] for rule in rules if known(rule.get("id"))]
        if len(set(names)) != len(names):
            yield Failure("rules", f"rules have the ids {names}; each has its own: rename one")
        for rule in rules:
            yield from one_of(rule, "status", *_STATES)
            yield from _times(rule)

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        configuration = {"Rules": to_api(inputs["rules"])}
        s3.put_bucket_lifecycle_configuration(Bucket=inputs["bucket"], LifecycleConfiguration=configuration)

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        found = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        return {"rules": [_with_filter(from_api(rule)) for rule in found]}

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        return _unless(super().read, "NoSuchLifecycleConfiguration", cloud, identity, inputs)

    def clear(self, s3: Any, bucket: str) -> None:
        s3.delete_bucket_lifecycle(Bucket=bucket)


class BucketObjectLockConfiguration(BucketSetting):
    """How long every new version is locked."""

    type_name = "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration"
    replace_on = ("bucket", "expectedBucketOwner", "region")
    in_place = ("rule", "token")
    defaults: ClassVar = {"objectLockEnabled": "Enabled"}
    blank: ClassVar = {"expectedBucketOwner": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        rule = inputs.get("rule")
        retention = rule.get("defaultRetention") if isinstance(rule, dict) else None
        if not isinstance(retention, dict):
            return
        mode, times = retention.get("mode"), [retention.get("days"), retention.get("years")]
        if known(mode) and mode not in ("GOVERNANCE", "COMPLIANCE"):
            yield Failure("rule", f"mode is {mode!r}; allowed are GOVERNANCE, COMPLIANCE: choose one of them")
        if len([time for time in times if time]) != 1:
            yield Failure("rule", f"days and years are {times}; a retention has one of them, above 0: set one")

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        configuration = {"ObjectLockEnabled": "Enabled"}
        if inputs.get("rule"):
            configuration["Rule"] = to_api(inputs["rule"])
        s3.put_object_lock_configuration(Bucket=inputs["bucket"], ObjectLockConfiguration=configuration)

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        found = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        state: dict[str, Any] = from_api({key: found[key] for key in ("ObjectLockEnabled", "Rule") if key in found})
        return state

    def clear(self, s3: Any, bucket: str) -> None:
        # A bucket that was made with a lock keeps it; what goes is the default for new versions.
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})


def _times(rule: dict[str, Any]) -> Iterator[Failure]:
    """Objects move before they expire, and not sooner than S3 moves them."""
    expiration = rule.get("expiration")
    ends = expiration.get("days") if isinstance(expiration, dict) else None
    for transition in known_items(rule, "transitions"):
        days = transition.get("days")
        if not isinstance(days, int | float):
            continue
        if transition.get("storageClass") in _COLD and days < _COLD_DAYS:
            yield Failure("rules", f"days is {days:g}; S3 moves nothing there before {_COLD_DAYS}: choose more")
        if isinstance(ends, int | float) and ends <= days:
            yield Failure("rules", f"expiration after {ends:g} days, transition after {days:g}; it is later: swap them")


def _with_filter(rule: dict[str, Any]) -> dict[str, Any]:
    """A filter for everything is an empty prefix, which the API leaves out."""
    if not rule.get("filter"):
        rule["filter"] = {"prefix": rule.pop("prefix", "") or ""}
    return rule


def _unless(read: Any, code: str, *arguments: Any) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] | None = read(*arguments)
    except ClientError as error:
        if code_of(error) == code:
            return None
        raise
    return found


TYPES: Final = (BucketLifecycleConfiguration, BucketObjectLockConfiguration)
