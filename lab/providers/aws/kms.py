"""KMS: keys and aliases."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import between, document, matches, one_of
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming

_GONE: Final = {"NotFoundException"}


class Key(AwsType):
    """A key; deletion is scheduled, as AWS never deletes one at once."""

    type_name = "aws:kms/key:Key"
    defaults: ClassVar = {
        "customerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "isEnabled": True,
        "keyUsage": "ENCRYPT_DECRYPT",
        "enableKeyRotation": False,
        "bypassPolicyLockoutSafetyCheck": False,
    }
    replace_on = ("customerMasterKeySpec", "keyUsage", "multiRegion", "customKeyStoreId", "xksKeyId", "region")
    in_place = (
        "description",
        "policy",
        "enableKeyRotation",
        "isEnabled",
        "deletionWindowInDays",
        "bypassPolicyLockoutSafetyCheck",
    )
    lasting = ("policy",)
    documents = frozenset({"policy"})
    blank: ClassVar = {"rotationPeriodInDays": 0}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from between(inputs, "deletionWindowInDays", 7, 30)
        yield from between(inputs, "rotationPeriodInDays", 90, 2560)
        yield from one_of(inputs, "keyUsage", "ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT")
        yield from document(inputs, "policy")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        arguments: dict[str, Any] = {
            "KeyUsage": inputs["keyUsage"],
            "KeySpec": inputs["customerMasterKeySpec"],
            "Description": inputs.get("description") or "",
            "MultiRegion": bool(inputs.get("multiRegion")),
            "Tags": _tag_list(tags),
        }
        if inputs.get("policy"):
            arguments["Policy"] = inputs["policy"]
        identity: str = cloud.client("kms").create_key(**arguments)["KeyMetadata"]["KeyId"]
        self._set_state(cloud, identity, inputs)
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        kms = cloud.client("kms")
        try:
            found = kms.describe_key(KeyId=identity)["KeyMetadata"]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        if found["KeyState"] == "PendingDeletion":
            return None
        rotation = kms.get_key_rotation_status(KeyId=identity)
        return {
            "arn": found["Arn"],
            "keyId": found["KeyId"],
            "description": found.get("Description", ""),
            "multiRegion": bool(found.get("MultiRegion")),
            "isEnabled": found["KeyState"] == "Enabled",
            "policy": kms.get_key_policy(KeyId=identity, PolicyName="default")["Policy"],
            "enableKeyRotation": bool(rotation["KeyRotationEnabled"]),
            "rotationPeriodInDays": rotation.get("RotationPeriodInDays", 0),
            "tagsAll": _tags(kms, identity),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        kms = cloud.client("kms")
        if old.get("description") != new.get("description"):
            kms.update_key_description(KeyId=identity, Description=new.get("description") or "")
        if new.get("policy") and old.get("policy") != new["policy"]:
            kms.put_key_policy(KeyId=identity, PolicyName="default", Policy=new["policy"])
        self._set_state(cloud, identity, new)

    def _set_state(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> None:
        kms = cloud.client("kms")
        enabled = kms.get_key_rotation_status(KeyId=identity)["KeyRotationEnabled"]
        if inputs.get("enableKeyRotation") and not enabled:
            kms.enable_key_rotation(KeyId=identity)
        elif enabled and not inputs.get("enableKeyRotation"):
            kms.disable_key_rotation(KeyId=identity)
        (kms.enable_key if inputs.get("isEnabled", True) else kms.disable_key)(KeyId=identity)

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        kms = cloud.client("kms")
        if tags:
            kms.tag_resource(KeyId=identity, Tags=_tag_list(tags))
        if removed:
            kms.untag_resource(KeyId=identity, TagKeys=removed)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.read(cloud, identity, state) is not None:
            days = int(state.get("deletionWindowInDays") or 30)
            cloud.client("kms").schedule_key_deletion(KeyId=identity, PendingWindowInDays=days)

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        kms = cloud.client("kms")
        for key in kms.list_keys()["Keys"]:
            pending = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "PendingDeletion"
            if not pending:
                yield key["KeyId"], _tags(kms, key["KeyId"]).get(MARKER_TAG)


class Alias(AwsType):
    """A name for a key."""

    type_name = "aws:kms/alias:Alias"
    naming = Naming(longest=256, prefix="alias/", instead=("namePrefix",))
    replace_on = ("name", "namePrefix", "region")
    in_place = ("targetKeyId",)
    blank: ClassVar = {"namePrefix": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(
            inputs, "name", r"alias/(?!aws/)[a-zA-Z0-9/_-]+", "aliases begin with alias/ and not alias/aws/"
        )

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        name: str = inputs["name"]
        found = _alias(cloud, name)
        if found is None:
            cloud.client("kms").create_alias(AliasName=name, TargetKeyId=inputs["targetKeyId"])
        elif found["TargetKeyId"] != inputs["targetKeyId"].rpartition("/")[2]:
            raise ProviderError(f"{name} exists already and means another key; aliases are unique: choose another name")
        return name

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = _alias(cloud, identity)
        if found is None:
            return None
        key = cloud.client("kms").describe_key(KeyId=found["TargetKeyId"])["KeyMetadata"]
        return {
            "name": identity,
            "arn": found["AliasArn"],
            "targetKeyId": inputs.get("targetKeyId") or found["TargetKeyId"],
            "targetKeyArn": key["Arn"],
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        cloud.client("kms").update_alias(AliasName=identity, TargetKeyId=new["targetKeyId"])

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if _alias(cloud, identity) is not None:
            cloud.client("kms").delete_alias(AliasName=identity)

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        return {"name": identity}


def _alias(cloud: Cloud, name: str) -> dict[str, Any] | None:
    pages = cloud.client("kms").get_paginator("list_aliases").paginate()
    return next((alias for page in pages for alias in page["Aliases"] if alias["AliasName"] == name), None)


def _tags(kms: Any, identity: str) -> dict[str, str]:
    return {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=identity)["Tags"]}


def _tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"TagKey": key, "TagValue": value} for key, value in sorted(tags.items())]


TYPES: Final = (Key, Alias)
