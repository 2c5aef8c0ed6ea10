"""What was asked of the public zone, and from where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import cloudwatch, route53

REGION: Final = "us-east-1"
"""The DNS service writes its query log into this region only
(https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/query-logs.html)."""


@dataclass(frozen=True, kw_only=True)
class QueryLogArgs:
    """Whose queries, and how long they are kept."""

    zone_name: str
    zone_id: Input[str]
    retention_days: int
    tags: dict[str, str] = field(default_factory=dict)


class QueryLog(pulumi.ComponentResource):
    """Every query of the zone, for as long as it may be kept: it names networks of users, so not for ever."""

    def __init__(self, name: str, args: QueryLogArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:query_log:QueryLog", name, {}, opts)
        child = ResourceOptions(parent=self)
        group = cloudwatch.LogGroup(
            f"{name}-group",
            # The DNS service writes only to groups below this name.
            name=f"/aws/route53/{args.zone_name}",
            retention_in_days=args.retention_days,
            tags=args.tags,
            opts=child,
        )
        policy = cloudwatch.LogResourcePolicy(
            f"{name}-policy",
            policy_name=f"route53-{args.zone_name}",
            policy_document=Output.json_dumps(_policy(group.arn, args.zone_id)),
            opts=child,
        )
        route53.QueryLog(
            f"{name}-log",
            zone_id=args.zone_id,
            cloudwatch_log_group_arn=group.arn,
            # Refused unless the DNS service may write there.
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[policy])),
        )
        self.register_outputs({})


def _policy(group_arn: Output[str], zone_id: Input[str]) -> dict[str, object]:
    """Let this zone write into this group, and nobody else's."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "route53.amazonaws.com"},
                "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": Output.concat(group_arn, ":*"),
                "Condition": {"ArnLike": {"aws:SourceArn": Output.concat("arn:aws:route53:::hostedzone/", zone_id)}},
            }
        ],
    }
