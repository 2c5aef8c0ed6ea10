"""S3: which objects are copied where; the stores of the lab copy them."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import Cloud, code_of
from lab.providers.aws.rules import known, matches, one_of
from lab.providers.aws.s3_settings import BucketSetting, known_items
from lab.providers.aws.s3_wire import from_api, to_api
from lab.providers.errors import Failure

_MINUTES: Final = 15
"""https://docs.aws.amazon.com/AmazonS3/latest/API/API_ReplicationTimeValue.html"""
_STATES: Final = ("Enabled", "Disabled")


class BucketReplicationConfig(BucketSetting):
    """The rules of one source bucket, in the second version of their language."""

    type_name = "aws:s3/bucketReplicationConfig:BucketReplicationConfig"
    in_place = ("rules", "role", "token")

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(inputs, "role", r"arn:[^:]+:iam::[^:]*:role/.+", "S3 takes on a role named by its ARN")
        rules = known_items(inputs, "rules")
        priorities = [rule["priority"] for rule in rules if known(rule.get("priority"))]
        if len(set(priorities)) != len(priorities):
            yield Failure("rules", f"priorities are {priorities}; each rule has its own: choose another one")
        for rule in rules:
            yield from one_of(rule, "status", *_STATES)
            yield from _rule(rule)

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        configuration = {"Role": inputs["role"], "Rules": to_api(inputs["rules"])}
        s3.put_bucket_replication(Bucket=inputs["bucket"], ReplicationConfiguration=configuration)

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        found = s3.get_bucket_replication(Bucket=bucket)["ReplicationConfiguration"]
        return {"role": found["Role"], "rules": [from_api(rule) for rule in found["Rules"]]}

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return super().read(cloud, identity, inputs)
        except ClientError as error:
            if code_of(error) == "ReplicationConfigurationNotFoundError":
                return None
            raise

    def clear(self, s3: Any, bucket: str) -> None:
        s3.delete_bucket_replication(Bucket=bucket)


def _rule(rule: dict[str, Any]) -> Iterator[Failure]:
    """What S3 refuses of a single rule."""
    if rule.get("filter") is not None and rule.get("deleteMarkerReplication") is None:
        yield Failure(
            "rules", "a rule with a filter says nothing of delete markers; it has to: set deleteMarkerReplication"
        )
    destination = rule.get("destination")
    if not isinstance(destination, dict):
        return
    time, metrics = destination.get("replicationTime"), destination.get("metrics")
    if isinstance(time, dict):
        yield from _minutes(time.get("time"), "replicationTime")
        if not (isinstance(metrics, dict) and metrics.get("status") == "Enabled"):
            yield Failure("rules", "replicationTime without metrics; S3 wants both or none: enable metrics")
    if isinstance(metrics, dict):
        yield from _minutes(metrics.get("eventThreshold"), "metrics")
    selected = rule.get("sourceSelectionCriteria")
    encrypted = selected.get("sseKmsEncryptedObjects") if isinstance(selected, dict) else None
    keyed = isinstance(encrypted, dict) and encrypted.get("status") == "Enabled"
    if keyed and not destination.get("encryptionConfiguration"):
        yield Failure(
            "rules",
            "sseKmsEncryptedObjects is Enabled and no replica key is named; S3 would not know what to encrypt copies"
            " with: set encryptionConfiguration",
        )


def _minutes(value: Any, name: str) -> Iterator[Failure]:
    minutes = value.get("minutes") if isinstance(value, dict) else None
    if known(minutes) and minutes != _MINUTES:
        yield Failure("rules", f"minutes of {name} is {minutes:g}; S3 takes {_MINUTES} only: set it to that")


TYPES: Final = (BucketReplicationConfig,)
