"""SNS: topics and who hears them; the lab delivers to its own machine and mails nobody."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of, from_tag_list, to_tag_list
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import document, known, matches, one_of
from lab.providers.errors import ConfigurationError, Failure
from lab.providers.loopback import require_loopback
from lab.providers.naming import Naming

_GONE: Final = {"NotFound", "NotFoundException"}
_ATTRIBUTES: Final = {"kmsMasterKeyId": "KmsMasterKeyId", "displayName": "DisplayName", "policy": "Policy"}
CALLED: Final = ("http", "https")
PROTOCOLS: Final = (*CALLED, "email", "email-json", "sqs")


class Topic(AwsType):
    """A topic; its id is its ARN."""

    type_name = "aws:sns/topic:Topic"
    naming = Naming(longest=256, instead=("namePrefix",))
    replace_on = ("name", "namePrefix", "fifoTopic", "region")
    in_place = tuple(_ATTRIBUTES)
    lasting = ("policy",)
    documents = frozenset({"policy"})
    blank: ClassVar = {
        "beginningArchiveTime": "",
        "fifoThroughputScope": "",
        "maximumMessageSize": 262144,
        "namePrefix": "",
        "signatureVersion": 0,
        "tracingConfig": "",
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(inputs, "name", r"[\w-]{1,256}", "topics are named with letters, digits, - and _")
        yield from document(inputs, "policy")
        if inputs.get("fifoTopic"):
            yield Failure("fifoTopic", "fifoTopic is set; the lab has standard topics, which alarms tell: remove it")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        attributes = {wire: str(inputs[name]) for name, wire in _ATTRIBUTES.items() if inputs.get(name)}
        made = cloud.client("sns").create_topic(Name=inputs["name"], Attributes=attributes, Tags=to_tag_list(tags))
        return str(made["TopicArn"])

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            found = cloud.client("sns").get_topic_attributes(TopicArn=identity)["Attributes"]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        return {
            **{name: found[wire] for name, wire in _ATTRIBUTES.items() if found.get(wire)},
            "arn": identity,
            "name": identity.rpartition(":")[2],
            "owner": found.get("Owner", cloud.account),
            "tagsAll": _tags(cloud, identity),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        for name, wire in _ATTRIBUTES.items():
            if old.get(name) != new.get(name):
                value = str(new.get(name) or "")
                cloud.client("sns").set_topic_attributes(TopicArn=identity, AttributeName=wire, AttributeValue=value)

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        if tags:
            cloud.client("sns").tag_resource(ResourceArn=identity, Tags=to_tag_list(tags))
        if removed:
            cloud.client("sns").untag_resource(ResourceArn=identity, TagKeys=removed)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        try:
            cloud.client("sns").delete_topic(TopicArn=identity)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for page in cloud.client("sns").get_paginator("list_topics").paginate():
            for topic in page["Topics"]:
                yield topic["TopicArn"], _tags(cloud, topic["TopicArn"]).get(MARKER_TAG)


class TopicSubscription(AwsType):
    """Who hears a topic; its id is its ARN. The same endpoint twice is the same subscription."""

    type_name = "aws:sns/topicSubscription:TopicSubscription"
    defaults: ClassVar = {
        "confirmationTimeoutInMinutes": 1,
        "endpointAutoConfirms": False,
        "rawMessageDelivery": False,
    }
    replace_on = ("topic", "protocol", "endpoint", "region")
    blank: ClassVar = {"confirmationWasAuthenticated": False, "filterPolicyScope": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "protocol", *PROTOCOLS)
        endpoint = inputs.get("endpoint")
        if inputs.get("protocol") in CALLED and known(endpoint):
            try:
                require_loopback(str(endpoint), "the endpoint of a subscription")
            except ConfigurationError as error:
                yield Failure("endpoint", str(error))

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        made = cloud.client("sns").subscribe(
            TopicArn=inputs["topic"],
            Protocol=inputs["protocol"],
            Endpoint=inputs["endpoint"],
            ReturnSubscriptionArn=True,
        )
        return str(made["SubscriptionArn"])

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            found = cloud.client("sns").get_subscription_attributes(SubscriptionArn=identity)["Attributes"]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        return {
            "arn": identity,
            "topic": found["TopicArn"],
            "protocol": found["Protocol"],
            "endpoint": found["Endpoint"],
            "ownerId": found.get("Owner", cloud.account),
            # moto takes every subscription for confirmed; nobody reads the mail of the lab.
            "pendingConfirmation": found["Protocol"].startswith("email"),
        }

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        try:
            cloud.client("sns").unsubscribe(SubscriptionArn=identity)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise


def _tags(cloud: Cloud, arn: str) -> dict[str, str]:
    return from_tag_list(cloud.client("sns").list_tags_for_resource(ResourceArn=arn).get("Tags"))


TYPES: Final = (Topic, TopicSubscription)
