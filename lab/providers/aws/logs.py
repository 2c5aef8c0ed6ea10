"""CloudWatch Logs: groups, and who may write into them."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import document, matches, one_of
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming

_GONE: Final = {"ResourceNotFoundException"}
RETENTIONS: Final = (
    *(0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827),
    *(2192, 2557, 2922, 3288, 3653),
)
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html; 0 is for ever."""


class LogGroup(AwsType):
    """A log group; nothing of the lab writes into it."""

    type_name = "aws:cloudwatch/logGroup:LogGroup"
    naming = Naming(longest=512, instead=("namePrefix",))
    defaults: ClassVar = {"retentionInDays": 0, "skipDestroy": False}
    replace_on = ("name", "namePrefix", "logGroupClass", "region")
    in_place = ("retentionInDays", "kmsKeyId", "skipDestroy")
    blank: ClassVar = {"namePrefix": "", "logGroupClass": "STANDARD", "deletionProtectionEnabled": False}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "retentionInDays", *RETENTIONS)
        yield from matches(inputs, "name", r"[\w./#-]{1,512}", "groups are named with letters, digits and . _ / # -")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        key = {"kmsKeyId": inputs["kmsKeyId"]} if inputs.get("kmsKeyId") else {}
        cloud.client("logs").create_log_group(logGroupName=inputs["name"], tags=tags, **key)
        _keep(cloud, inputs["name"], inputs.get("retentionInDays"))
        return str(inputs["name"])

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = next((group for group in _groups(cloud, identity) if group["logGroupName"] == identity), None)
        if found is None:
            return None
        return {
            "arn": _arn(found),
            "name": identity,
            "retentionInDays": found.get("retentionInDays", 0),
            "tagsAll": _tags(cloud, _arn(found)),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        client = cloud.client("logs")
        _keep(cloud, identity, new.get("retentionInDays"))
        if new.get("kmsKeyId") and old.get("kmsKeyId") != new["kmsKeyId"]:
            client.associate_kms_key(logGroupName=identity, kmsKeyId=new["kmsKeyId"])
        elif old.get("kmsKeyId") and not new.get("kmsKeyId"):
            client.disassociate_kms_key(logGroupName=identity)

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        arn = cloud.arn("logs", f"log-group:{identity}")
        if tags:
            cloud.client("logs").tag_resource(resourceArn=arn, tags=tags)
        if removed:
            cloud.client("logs").untag_resource(resourceArn=arn, tagKeys=removed)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if state.get("skipDestroy"):
            return
        try:
            cloud.client("logs").delete_log_group(logGroupName=identity)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for group in _groups(cloud):
            yield group["logGroupName"], _tags(cloud, _arn(group)).get(MARKER_TAG)


class LogResourcePolicy(AwsType):
    """Which services may write into the account's groups; its id is its name."""

    type_name = "aws:cloudwatch/logResourcePolicy:LogResourcePolicy"
    replace_on = ("policyName", "resourceArn", "region")
    in_place = ("policyDocument",)
    documents = frozenset({"policyDocument"})

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from document(inputs, "policyDocument")
        if inputs.get("resourceArn"):
            yield Failure(
                "resourceArn", "resourceArn is set; the lab keeps policies of the account only: give policyName"
            )
        elif not inputs.get("policyName"):
            yield Failure("policyName", "policyName is missing; a policy of the account has one: give it a name")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        found = _policy(cloud, inputs["policyName"])
        if found is not None and found != inputs["policyDocument"]:
            raise ProviderError(
                f"log resource policy {inputs['policyName']} exists already and says something else; names are unique:"
                " choose another name"
            )
        self.update(cloud, inputs["policyName"], {}, inputs)
        return str(inputs["policyName"])

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = _policy(cloud, identity)
        if found is None:
            return None
        return {
            "policyName": identity,
            "policyDocument": found,
            "policyScope": "ACCOUNT",
            "revisionId": hashlib.sha256(found.encode()).hexdigest()[:32],
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        cloud.client("logs").put_resource_policy(policyName=identity, policyDocument=new["policyDocument"])

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if _policy(cloud, identity) is not None:
            cloud.client("logs").delete_resource_policy(policyName=identity)

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        return {"policyName": identity}


def _groups(cloud: Cloud, prefix: str = "") -> list[dict[str, Any]]:
    beginning = {"logGroupNamePrefix": prefix} if prefix else {}
    pages = cloud.client("logs").get_paginator("describe_log_groups").paginate(**beginning)
    return [group for page in pages for group in page["logGroups"]]


def _arn(group: dict[str, Any]) -> str:
    return str(group["arn"]).removesuffix(":*")


def _tags(cloud: Cloud, arn: str) -> dict[str, str]:
    return dict(cloud.client("logs").list_tags_for_resource(resourceArn=arn).get("tags", {}))


def _keep(cloud: Cloud, group: str, days: int | None) -> None:
    client = cloud.client("logs")
    if days:
        client.put_retention_policy(logGroupName=group, retentionInDays=days)
    else:
        client.delete_retention_policy(logGroupName=group)


def _policy(cloud: Cloud, name: str) -> str | None:
    found = cloud.client("logs").describe_resource_policies()["resourcePolicies"]
    return next((str(policy["policyDocument"]) for policy in found if policy["policyName"] == name), None)


TYPES: Final = (LogGroup, LogResourcePolicy)
