"""S3: buckets."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of, from_tag_list, to_tag_list
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import matches
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming

_HOSTED_ZONE: Final = {"us-east-1": "Z3AQBSTGFYJSTF", "eu-central-1": "Z21DNDUVLTQW6Q", "eu-west-1": "Z1BKCTXD74EZPE"}
"""Zone ids of S3 website endpoints, from AWS's table of endpoints; regions not listed get the first."""
GONE: Final = {"NoSuchBucket", "404"}
_SPLIT: Final = {
    "accelerationStatus": "BucketAccelerateConfiguration",
    "acl": "BucketAcl",
    "corsRules": "BucketCorsConfiguration",
    "grants": "BucketAcl",
    "lifecycleRules": "BucketLifecycleConfiguration",
    "logging": "BucketLogging",
    "policy": "BucketPolicy",
    "replicationConfiguration": "BucketReplicationConfig",
    "requestPayer": "BucketRequestPaymentConfiguration",
    "serverSideEncryptionConfiguration": "BucketServerSideEncryptionConfiguration",
    "versioning": "BucketVersioning",
    "website": "BucketWebsiteConfiguration",
}
"""Inline settings that drift -> the resource of their own that holds them."""


class Bucket(AwsType):
    """A bucket; its settings are resources of their own."""

    type_name = "aws:s3/bucket:Bucket"
    naming = Naming(property="bucket", longest=63, lowercase=True, instead=("bucketPrefix",))
    defaults: ClassVar = {"forceDestroy": False}
    replace_on = ("bucket", "bucketPrefix", "bucketNamespace", "objectLockEnabled", "region")
    in_place = ("forceDestroy",)
    blank: ClassVar = {
        "accelerationStatus": "",
        "acl": "private",
        "bucketNamespace": "",
        "bucketPrefix": "",
        "corsRules": [],
        "grants": [],
        "lifecycleRules": [],
        "logging": {},
        "objectLockConfiguration": {},
        "objectLockEnabled": False,
        "policy": "",
        "replicationConfiguration": {},
        "requestPayer": "BucketOwner",
        "serverSideEncryptionConfiguration": {},
        "versioning": {},
        "website": {},
        "websiteDomain": "",
        "websiteEndpoint": "",
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        rule = "bucket names have 3 to 63 lower-case letters, digits, dots and hyphens"
        yield from matches(inputs, "bucket", r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", rule)
        for name, instead in _SPLIT.items():
            if inputs.get(name) not in (None, [], {}):
                yield Failure(
                    name, f"{name} inside the bucket drifts; the lab takes it split only: declare a {instead}"
                )

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        name: str = inputs["bucket"]
        s3 = cloud.client("s3")
        arguments: dict[str, Any] = {"Bucket": name}
        region = inputs.get("region") or cloud.region
        if region != "us-east-1":
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        if inputs.get("objectLockEnabled"):
            arguments["ObjectLockEnabledForBucket"] = True
        if bucket_exists(cloud, name):  # S3 in us-east-1 answers 200 to its owner's second CreateBucket
            raise ProviderError(f"bucket {name!r} exists already and belongs to another resource: choose another name")
        s3.create_bucket(**arguments)
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": to_tag_list(tags)})
        return name

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        if not bucket_exists(cloud, identity):
            return None
        region = cloud.client("s3").get_bucket_location(Bucket=identity).get("LocationConstraint") or "us-east-1"
        return {
            "bucket": identity,
            "arn": f"arn:aws:s3:::{identity}",
            "bucketDomainName": f"{identity}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{identity}.s3.{region}.amazonaws.com",
            "bucketRegion": region,
            "region": inputs.get("region") or cloud.region,
            "hostedZoneId": _HOSTED_ZONE.get(region, _HOSTED_ZONE["us-east-1"]),
            "tagsAll": _tags(cloud, identity),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Only tags and forceDestroy change in place; the latter is read at deletion."""

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        marker = _tags(cloud, identity).get(MARKER_TAG)
        wanted = {**tags, MARKER_TAG: marker} if marker else tags
        cloud.client("s3").put_bucket_tagging(Bucket=identity, Tagging={"TagSet": to_tag_list(wanted)})

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if not bucket_exists(cloud, identity):
            return
        s3 = cloud.client("s3")
        if state.get("forceDestroy"):
            _empty(s3, identity)
        try:
            s3.delete_bucket(Bucket=identity)
        except ClientError as error:
            if code_of(error) == "BucketNotEmpty":
                raise ProviderError(
                    f"bucket {identity!r} is not empty; only empty buckets can be deleted: empty it or set forceDestroy"
                ) from error
            if code_of(error) not in GONE:
                raise

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for bucket in cloud.client("s3").list_buckets()["Buckets"]:
            yield bucket["Name"], _tags(cloud, bucket["Name"]).get(MARKER_TAG)

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        return {"bucket": identity}


def bucket_exists(cloud: Cloud, bucket: str) -> bool:
    """Whether there is such a bucket."""
    try:
        cloud.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        if code_of(error) in GONE:
            return False
        raise
    return True


def _tags(cloud: Cloud, bucket: str) -> dict[str, str]:
    try:
        return from_tag_list(cloud.client("s3").get_bucket_tagging(Bucket=bucket)["TagSet"])
    except ClientError as error:
        if code_of(error) in {"NoSuchTagSet", *GONE}:
            return {}
        raise


def _empty(s3: Any, bucket: str) -> None:
    """Remove every version and delete marker, locked ones by governance bypass."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(
                Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"], BypassGovernanceRetention=True
            )


TYPES: Final = (Bucket,)
