"""S3: the policy of a bucket, and whether S3 would call it public."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import Cloud, code_of
from lab.providers.aws.rules import document, known
from lab.providers.aws.s3_settings import BucketSetting
from lab.providers.errors import Failure, ProviderError

_WIDEST: Final = 8
"""A wider network of callers counts as everybody."""


class BucketPolicy(BucketSetting):
    """Who may do what with a bucket; the lab's stores go by actions and keys and look at no condition."""

    type_name = "aws:s3/bucketPolicy:BucketPolicy"
    in_place = ("policy",)
    documents: ClassVar = frozenset({"policy"})

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        failures = list(document(inputs, "policy"))
        yield from failures
        policy, bucket = inputs.get("policy"), inputs.get("bucket")
        if known(policy) and known(bucket) and not failures:
            for arn in _resources(json.loads(str(policy))):
                if arn.partition("/")[0] != f"arn:aws:s3:::{bucket}":
                    yield Failure(
                        "policy", f"policy names {arn!r}; it speaks of its own bucket {bucket!r} only: correct the ARN"
                    )

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        if is_public(json.loads(inputs["policy"])) and _blocked(s3, inputs["bucket"]):
            raise ProviderError(
                f"the policy of bucket {inputs['bucket']!r} is public and the bucket's public access block refuses"
                " such: name fixed networks in aws:SourceIp, or principals"
            )
        s3.put_bucket_policy(Bucket=inputs["bucket"], Policy=inputs["policy"])

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        return {"policy": s3.get_bucket_policy(Bucket=bucket)["Policy"]}

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return super().read(cloud, identity, inputs)
        except ClientError as error:
            if code_of(error) == "NoSuchBucketPolicy":
                return None
            raise

    def clear(self, s3: Any, bucket: str) -> None:
        s3.delete_bucket_policy(Bucket=bucket)


def is_public(policy: dict[str, Any]) -> bool:
    """Whether a statement allows something to anyone from anywhere.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html#access-control-block-public-access-policy-status
    """
    return any(
        statement.get("Effect") == "Allow"
        and statement.get("Principal") in ("*", {"AWS": "*"})
        and not _from_fixed_networks(statement)
        for statement in _statements(policy)
    )


def _from_fixed_networks(statement: dict[str, Any]) -> bool:
    given = statement.get("Condition", {}).get("IpAddress", {}).get("aws:SourceIp")
    sources = [given] if isinstance(given, str) else given or []
    return bool(sources) and all(_narrow(source) for source in sources)


def _narrow(source: str) -> bool:
    try:
        return ipaddress.IPv4Network(source).prefixlen >= _WIDEST
    except ValueError:
        return False


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    found = policy.get("Statement", [])
    return [found] if isinstance(found, dict) else found


def _resources(policy: dict[str, Any]) -> Iterator[str]:
    for statement in _statements(policy):
        named = statement.get("Resource", [])
        yield from [named] if isinstance(named, str) else named


def _blocked(s3: Any, bucket: str) -> bool:
    try:
        block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if code_of(error) == "NoSuchPublicAccessBlockConfiguration":
            return False
        raise
    return bool(block.get("BlockPublicPolicy"))


TYPES: Final = (BucketPolicy,)
