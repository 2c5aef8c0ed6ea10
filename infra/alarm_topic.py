"""Where alarms go: one encrypted topic for each region that has any, because an alarm reaches only its own region's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_aws import kms, sns

from infra import receivers


@dataclass(frozen=True, kw_only=True)
class AlarmTopicArgs:
    """Who is told."""

    emails: tuple[str, ...] = ()
    """Each address has to confirm by the link it is sent."""
    urls: tuple[str, ...] = ()
    """HTTPS endpoints; each has to confirm by itself."""
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        receivers.check(self.emails, self.urls)


class AlarmTopic(pulumi.ComponentResource):
    """Whoever subscribes hears every alarm of this region, and nobody reads it on the way."""

    arn: Output[str]

    def __init__(self, name: str, args: AlarmTopicArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:alarm_topic:AlarmTopic", name, {}, opts)
        child = ResourceOptions(parent=self)
        key = kms.Key(
            f"{name}-key",
            description=f"Messages of {name}",
            enable_key_rotation=True,
            deletion_window_in_days=7,
            tags=args.tags,
            opts=child,
        )
        # A topic under the service's own key is silent: CloudWatch may not use that one, and its policy is fixed.
        policy = kms.KeyPolicy(f"{name}-key", key_id=key.key_id, policy=key.arn.apply(_key_policy), opts=child)
        topic = sns.Topic(
            name,
            kms_master_key_id=key.key_id,
            tags=args.tags,
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[policy])),
        )
        ways = [("email", address) for address in args.emails] + [(urlsplit(url).scheme, url) for url in args.urls]
        for protocol, endpoint in ways:
            # Named by what it is, not by its place in the list: one taken away leaves the others as they are.
            sns.TopicSubscription(
                f"{name}-{endpoint}", topic=topic.arn, protocol=protocol, endpoint=endpoint, opts=child
            )
        self.arn = topic.arn
        self.register_outputs({"arn": self.arn})


def _key_policy(key_arn: str) -> str:
    """The account keeps the key, and alarms may use it.

    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    """
    account = key_arn.split(":")[4]
    statements = [
        {
            "Sid": "Account",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
            "Action": "kms:*",
            "Resource": "*",
        },
        {
            "Sid": "Alarms",
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
            # Whose alarms: the topic's own policy lets only this account publish.
            "Resource": "*",
        },
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, sort_keys=True)
