"""Who talked to whom in a network, and who was refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_aws import cloudwatch, ec2, iam

from infra import checks
from infra.log_retention import RETENTIONS

TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "vpc-flow-logs.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
AGGREGATION_SECONDS: Final = 600


@dataclass(frozen=True, kw_only=True)
class FlowLogArgs:
    """Whose flows, and for how long they are kept."""

    vpc_id: Input[str]
    days: int
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.one_of("days", str(self.days), tuple(map(str, RETENTIONS)))


class FlowLog(pulumi.ComponentResource):
    """Every connection of a network, taken or refused, is written down and forgotten after a time."""

    def __init__(self, name: str, args: FlowLogArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:flow_log:FlowLog", name, {}, opts)
        child = ResourceOptions(parent=self)
        group = cloudwatch.LogGroup(name, retention_in_days=args.days, tags=args.tags, opts=child)
        role = iam.Role(name, assume_role_policy=json.dumps(TRUST, sort_keys=True), tags=args.tags, opts=child)
        rights = iam.RolePolicy(
            name,
            role=role.name,
            policy=group.arn.apply(lambda arn: json.dumps(write_flows(arn), sort_keys=True)),
            opts=child,
        )
        ec2.FlowLog(
            name,
            vpc_id=args.vpc_id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=AGGREGATION_SECONDS,
            tags=args.tags,
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[rights])),
        )
        self.register_outputs({"log_group": group.name})


def write_flows(group_arn: str) -> dict[str, Any]:
    """Write into one log group: for the flow log service."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Write",
                "Effect": "Allow",
                "Action": ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                "Resource": f"{group_arn}:*",
            }
        ],
    }
