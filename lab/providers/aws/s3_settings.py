"""S3: the settings of a bucket, each a resource of its own."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import Cloud, code_of
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import known
from lab.providers.aws.s3 import GONE, bucket_exists
from lab.providers.errors import Failure, ProviderError

_ALGORITHMS: Final = ("AES256", "aws:kms", "aws:kms:dsse")


class BucketSetting(AwsType):
    """A setting of a bucket that exists once per bucket; its id is the bucket's name."""

    replace_on: ClassVar[tuple[str, ...]] = ("bucket", "region")
    delete_first = True  # old and new are the same setting of one bucket

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        """Write the setting."""
        raise NotImplementedError

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        """Read the setting; ClientError when the bucket has none."""
        raise NotImplementedError

    def clear(self, s3: Any, bucket: str) -> None:
        """Remove the setting."""
        raise NotImplementedError

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        bucket: str = inputs["bucket"]
        if not bucket_exists(cloud, bucket):
            raise ProviderError(f"bucket {bucket!r} does not exist; a setting needs its bucket: declare it first")
        self.put(cloud.client("s3"), inputs)
        return bucket

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return {"bucket": identity, **self.get(cloud.client("s3"), identity)}
        except ClientError as error:
            if code_of(error) in GONE or code_of(error).endswith(
                ("NotFoundError", "NoSuchPublicAccessBlockConfiguration")
            ):
                return None
            raise

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.put(cloud.client("s3"), new)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if bucket_exists(cloud, identity):
            self.clear(cloud.client("s3"), identity)

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        return {"bucket": identity}


class BucketVersioning(BucketSetting):
    """Whether a bucket keeps old versions."""

    type_name = "aws:s3/bucketVersioning:BucketVersioning"
    replace_on = ("bucket", "expectedBucketOwner", "region")
    in_place = ("versioningConfiguration.status",)

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from _nested(inputs, "versioningConfiguration", "status", "Enabled", "Suspended", "Disabled")
        yield from _nested(inputs, "versioningConfiguration", "mfaDelete", "Enabled", "Disabled")

    def refuse_update(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
        yield from super().refuse_update(old, new)
        before, after = ((inputs.get("versioningConfiguration") or {}).get("status") for inputs in (old, new))
        if after == "Disabled" != before:
            yield f"versioningConfiguration.status changes from {before} to Disabled, and S3 only suspends versioning"

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        status = inputs["versioningConfiguration"]["status"]
        if status != "Disabled":  # a bucket that never had versioning has no such state to set
            s3.put_bucket_versioning(Bucket=inputs["bucket"], VersioningConfiguration={"Status": status})

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        status = s3.get_bucket_versioning(Bucket=bucket).get("Status", "Disabled")
        return {"versioningConfiguration": {"status": status, "mfaDelete": ""}}

    def clear(self, s3: Any, bucket: str) -> None:
        if s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled":
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


class BucketServerSideEncryptionConfiguration(BucketSetting):
    """How a bucket encrypts what is put into it."""

    type_name = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    replace_on = ("bucket", "expectedBucketOwner", "region")
    in_place = ("rules",)

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        for rule in known_items(inputs, "rules"):
            applied = rule.get("applyServerSideEncryptionByDefault")
            if isinstance(applied, dict):
                yield from _nested(rule, "applyServerSideEncryptionByDefault", "sseAlgorithm", *_ALGORITHMS)
                if applied.get("kmsMasterKeyId") and applied.get("sseAlgorithm") == "AES256":
                    yield Failure(
                        "rules", "kmsMasterKeyId is set with AES256; a key needs aws:kms: set sseAlgorithm to it"
                    )

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        rules = []
        for rule in inputs["rules"]:
            applied = rule.get("applyServerSideEncryptionByDefault") or {}
            wire: dict[str, Any] = {"BucketKeyEnabled": bool(rule.get("bucketKeyEnabled"))}
            if applied:
                default = {"SSEAlgorithm": applied["sseAlgorithm"]}
                if applied.get("kmsMasterKeyId"):
                    default["KMSMasterKeyID"] = applied["kmsMasterKeyId"]
                wire["ApplyServerSideEncryptionByDefault"] = default
            rules.append(wire)
        s3.put_bucket_encryption(Bucket=inputs["bucket"], ServerSideEncryptionConfiguration={"Rules": rules})

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        found = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        rules = []
        for rule in found:
            default = rule.get("ApplyServerSideEncryptionByDefault", {})
            key = default.get("KMSMasterKeyID", "")
            applied = {"sseAlgorithm": default.get("SSEAlgorithm", "AES256"), "kmsMasterKeyId": key}
            enabled = rule.get("BucketKeyEnabled") in (True, "true")
            rules.append({"applyServerSideEncryptionByDefault": applied, "bucketKeyEnabled": enabled})
        return {"rules": rules}

    def clear(self, s3: Any, bucket: str) -> None:
        s3.delete_bucket_encryption(Bucket=bucket)


class BucketPublicAccessBlock(BucketSetting):
    """What a bucket refuses to make public."""

    type_name = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    _FLAGS: ClassVar = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    in_place = (*_FLAGS, "skipDestroy")

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        wire = {flag[0].upper() + flag[1:]: bool(inputs.get(flag)) for flag in self._FLAGS}
        s3.put_public_access_block(Bucket=inputs["bucket"], PublicAccessBlockConfiguration=wire)

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        found = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        return {flag: bool(found.get(flag[0].upper() + flag[1:])) for flag in self._FLAGS}

    def clear(self, s3: Any, bucket: str) -> None:
        s3.delete_public_access_block(Bucket=bucket)


class BucketOwnershipControls(BucketSetting):
    """Who owns what others put into a bucket."""

    type_name = "aws:s3/bucketOwnershipControls:BucketOwnershipControls"
    in_place = ("rule",)

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        allowed = ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")
        yield from _nested(inputs, "rule", "objectOwnership", *allowed)

    def put(self, s3: Any, inputs: dict[str, Any]) -> None:
        rules = [{"ObjectOwnership": inputs["rule"]["objectOwnership"]}]
        s3.put_bucket_ownership_controls(Bucket=inputs["bucket"], OwnershipControls={"Rules": rules})

    def get(self, s3: Any, bucket: str) -> dict[str, Any]:
        rules = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
        return {"rule": {"objectOwnership": rules[0]["ObjectOwnership"]}}

    def clear(self, s3: Any, bucket: str) -> None:
        s3.delete_bucket_ownership_controls(Bucket=bucket)


def _nested(inputs: dict[str, Any], outer: str, inner: str, *allowed: str) -> Iterator[Failure]:
    holder = inputs.get(outer)
    value = holder.get(inner) if isinstance(holder, dict) else None
    if known(value) and value not in allowed:
        path = f"{outer}.{inner}"
        yield Failure(path, f"{path} is {value!r}; allowed are {', '.join(allowed)}: choose one of them")


def known_items(inputs: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The entries of a list of objects, as far as they are known."""
    value = inputs.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


TYPES: Final = (
    BucketVersioning,
    BucketServerSideEncryptionConfiguration,
    BucketPublicAccessBlock,
    BucketOwnershipControls,
)
