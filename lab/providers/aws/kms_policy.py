"""KMS: the policy of a key, declared apart from it."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import Cloud, code_of
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import document
from lab.providers.errors import Failure

_GONE: Final = {"NotFoundException"}


class KeyPolicy(AwsType):
    """Who may use a key; its id is the key's. Without it a key is its account's alone."""

    type_name = "aws:kms/keyPolicy:KeyPolicy"
    replace_on = ("keyId", "region")
    in_place = ("policy", "bypassPolicyLockoutSafetyCheck")
    documents = frozenset({"policy"})

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from document(inputs, "policy")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        self.update(cloud, inputs["keyId"], {}, inputs)
        return str(inputs["keyId"])

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            found = cloud.client("kms").get_key_policy(KeyId=identity, PolicyName="default")["Policy"]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        return {"keyId": identity, "policy": found}

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        cloud.client("kms").put_key_policy(KeyId=identity, PolicyName="default", Policy=new["policy"])

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        account = {"AWS": f"arn:aws:iam::{cloud.account}:root"}
        statement = {"Effect": "Allow", "Principal": account, "Action": "kms:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        try:
            cloud.client("kms").put_key_policy(KeyId=identity, PolicyName="default", Policy=policy)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        return {"keyId": identity}


TYPES: Final = (KeyPolicy,)
