"""What a pod on EKS may do in the cloud: a role by Pod Identity, and no key anywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import eks, iam

from infra import checks

TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        }
    ],
}
"""https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html"""


@dataclass(frozen=True, kw_only=True)
class PodIdentityArgs:
    """Whose pods, and what they may do."""

    cluster_name: Input[str]
    namespace: str
    account: str
    """Service account of the pods."""
    policy: Input[dict[str, Any]]
    """IAM policy document."""
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.label("namespace", self.namespace)
        checks.label("account", self.account)


class PodIdentity(pulumi.ComponentResource):
    """Pods of one service account act under a role of their own that allows what its policy says."""

    role_arn: Output[str]

    def __init__(self, name: str, args: PodIdentityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:identity:PodIdentity", name, {}, opts)
        child = ResourceOptions(parent=self)
        role = iam.Role(name, assume_role_policy=json.dumps(TRUST, sort_keys=True), tags=args.tags, opts=child)
        rights = iam.RolePolicy(
            name,
            role=role.name,
            policy=Output.from_input(args.policy).apply(lambda document: json.dumps(document, sort_keys=True)),
            opts=child,
        )
        eks.PodIdentityAssociation(
            name,
            cluster_name=args.cluster_name,
            namespace=args.namespace,
            service_account=args.account,
            role_arn=role.arn,
            tags=args.tags,
            # A pod that starts with a role that allows nothing yet fails.
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[rights])),
        )
        self.role_arn = role.arn
        self.register_outputs({"role_arn": self.role_arn})


def bind_targets(target_group_arn: str, cluster_name: str) -> dict[str, Any]:
    """Put pods into one target group and let its connections in: the load balancer controller, for a binding.

    https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/deploy/installation/
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Bind",
                "Effect": "Allow",
                "Action": ["elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets"],
                "Resource": target_group_arn,
            },
            {
                "Sid": "Open",
                "Effect": "Allow",
                "Action": ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
                "Resource": "arn:aws:ec2:*:*:security-group/*",
                # The cluster's own group has this tag from EKS.
                "Condition": {"StringEquals": {f"aws:ResourceTag/kubernetes.io/cluster/{cluster_name}": "owned"}},
            },
            {
                "Sid": "Look",
                "Effect": "Allow",
                "Action": [
                    "ec2:DescribeAvailabilityZones",
                    "ec2:DescribeInstances",
                    "ec2:DescribeNetworkInterfaces",
                    "ec2:DescribeSecurityGroups",
                    "ec2:DescribeSubnets",
                    "ec2:DescribeVpcs",
                    "elasticloadbalancing:DescribeTargetGroups",
                    "elasticloadbalancing:DescribeTargetHealth",
                ],
                # These actions take no narrower resource.
                "Resource": "*",
            },
        ],
    }
