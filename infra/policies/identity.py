"""Rules of who may do what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from infra.policies.declared import UNKNOWN, Declared
from infra.policies.inputs import at, many
from infra.policies.rule import Finding, resource_rule, unsure, wrong
from infra.policies.statements import MANAGED, RIGHTS, ROLE, documents, statements

ALL_POWERFUL: Final = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess", "job-function/SystemAdministrator")
"""Managed policies that may do everything, or may give themselves the rest."""
CLUSTER_ACCESS: Final = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
CLUSTER_ROLES: Final = (
    "kubernetes:rbac.authorization.k8s.io/v1:Role",
    "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole",
)
CLUSTER_BINDINGS: Final = (
    "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
    "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
)


@resource_rule(
    "no-wildcard-admin",
    "No identity may do everything: no action * or service:* on every resource, no NotAction, no administrator policy.",
    *dict.fromkeys((*RIGHTS, *MANAGED, ROLE)),
)
def no_wildcard_admin(resource: Declared) -> Iterator[Finding]:
    """What an identity may do is named; a wildcard gives whoever takes it more than anybody meant."""
    for key in MANAGED.get(resource.type, ()):
        for arn in many(at(resource.inputs, key)):
            if any(str(arn).endswith(f"/{name}") for name in ALL_POWERFUL):
                yield wrong(
                    resource,
                    f"{key} is {arn}; no identity of the stacks may do everything: name a policy with the actions that"
                    " are needed",
                )
    for policy in documents(resource, RIGHTS):
        if policy == UNKNOWN:
            yield unsure(resource, "the policy's text")
            continue
        for statement in statements(policy, "Allow"):
            actions = [str(action) for action in many(statement.get("Action"))]
            everywhere = "*" in many(statement.get("Resource")) or "NotResource" in statement
            broad = [action for action in actions if action == "*" or (everywhere and action.endswith(":*"))]
            if broad or "NotAction" in statement:
                yield wrong(
                    resource,
                    f"statement {statement.get('Sid') or actions!r} allows {broad or 'all but some actions'} on"
                    f" {'every resource' if everywhere else many(statement.get('Resource'))}; rights are named: list"
                    " the actions and the resources that are needed",
                )


@resource_rule(
    "no-wildcard-role",
    "No Kubernetes role has all verbs or all resources, and none of ours is bound to cluster-admin.",
    *CLUSTER_ROLES,
    *CLUSTER_BINDINGS,
)
def no_wildcard_role(resource: Declared) -> Iterator[Finding]:
    """A role with a wildcard grows with every kind that is added to the cluster."""
    if at(resource.inputs, "roleRef", "name") == "cluster-admin":
        yield wrong(
            resource,
            "roleRef is cluster-admin; what is bound to it may do everything in the cluster: bind a role with the"
            " verbs and resources that are needed",
        )
    for rule in many(at(resource.inputs, "rules")):
        for key in ("verbs", "resources"):
            if "*" in many(at(rule, key)):
                yield wrong(resource, f"a rule's {key} hold *; rights are named: list the {key} that are needed")


RULES: Final = (no_wildcard_admin, no_wildcard_role)
