"""Statements of AWS policy documents, wherever a resource carries one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.policies.declared import UNKNOWN, Declared
from infra.policies.inputs import at, many, parsed

BUCKET_POLICY: Final = "aws:s3/bucketPolicy:BucketPolicy"
ROLE: Final = "aws:iam/role:Role"
DOCUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    BUCKET_POLICY: ("policy",),
    "aws:kms/key:Key": ("policy",),
    "aws:kms/keyPolicy:KeyPolicy": ("policy",),
    "aws:sns/topic:Topic": ("policy",),
    "aws:sns/topicPolicy:TopicPolicy": ("policy",),
    "aws:sqs/queuePolicy:QueuePolicy": ("policy",),
    "aws:ec2/vpcEndpoint:VpcEndpoint": ("policy",),
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": ("policyDocument",),
    ROLE: ("assumeRolePolicy",),
}
"""Inputs that say who may use a resource."""
RIGHTS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws:iam/policy:Policy": ("policy",),
    "aws:iam/rolePolicy:RolePolicy": ("policy",),
    "aws:iam/userPolicy:UserPolicy": ("policy",),
    "aws:iam/groupPolicy:GroupPolicy": ("policy",),
}
"""Inputs that say what an identity may do."""
MANAGED: Final[Mapping[str, tuple[str, ...]]] = {
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": ("policyArn",),
    "aws:iam/userPolicyAttachment:UserPolicyAttachment": ("policyArn",),
    "aws:iam/groupPolicyAttachment:GroupPolicyAttachment": ("policyArn",),
    "aws:iam/policyAttachment:PolicyAttachment": ("policyArn",),
    ROLE: ("managedPolicyArns",),
}
"""Inputs that name policies written elsewhere."""


def documents(resource: Declared, where: Mapping[str, tuple[str, ...]]) -> list[Any]:
    """The documents a resource carries in these inputs: a map each, or UNKNOWN."""
    found = [parsed(at(resource.inputs, key)) for key in where.get(resource.type, ())]
    if resource.type == ROLE and where is RIGHTS:
        found += [parsed(at(inline, "policy")) for inline in many(at(resource.inputs, "inlinePolicies"))]
    return [one for one in found if isinstance(one, Mapping) or one == UNKNOWN]


def statements(policy: Any, effect: str) -> Iterator[Mapping[str, Any]]:
    """The statements of a known document with this effect."""
    for statement in many(at(policy, "Statement")):
        if isinstance(statement, Mapping) and statement.get("Effect") == effect:
            yield statement


def anybody(statement: Mapping[str, Any]) -> bool:
    """Whether the statement is about everyone, with an account or without."""
    principal = statement.get("Principal")
    if "NotPrincipal" in statement or principal == "*":
        return True
    return isinstance(principal, Mapping) and any("*" in many(entry) for entry in principal.values())


def conditions(statement: Mapping[str, Any], operator: str, key: str) -> list[Any]:
    """Values a condition compares with; operators and keys are matched without case, as AWS does."""
    return [
        value
        for kind, tests in (statement.get("Condition") or {}).items()
        if kind.lower() == operator.lower() and isinstance(tests, Mapping)
        for name, values in tests.items()
        if name.lower() == key.lower()
        for value in many(values)
    ]
