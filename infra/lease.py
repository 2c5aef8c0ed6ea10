"""What a drill's undo may do inside a site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgs, Role, RoleBinding, RoleRefArgs, SubjectArgs

from infra import naming

NAME: Final = "drill-lease"
UNDO: Final = "drill"
"""What the pods of an undo are called by their labels; who makes them says so in drills/lease_job.py."""
RIGHTS: Final = (
    ("apps", ("deployments/scale",), ("get", "patch")),
    ("networking.k8s.io", ("networkpolicies",), ("get", "patch")),
    ("", ("configmaps",), ("get", "patch")),
    ("chaos-mesh.org", ("networkchaos",), ("get", "delete")),
)
"""API group, resources, verbs in the namespace of the workloads: what the actions' undos ask, and a lease's own map.

What a drill does itself, deleting pods among it, it does with the rights of whoever runs it.
"""
MACHINE_RIGHTS: Final = (("metal3.io", ("baremetalhosts",), ("get", "patch")),)
"""The same in the namespace of the machines."""


@dataclass(frozen=True, kw_only=True)
class LeaseArgs:
    """Where an undo runs and what lies outside of its namespace."""

    site: str
    namespace: Input[str]
    machine_namespace: Input[str] | None = None
    """Namespace with the switches of this cluster's machines; none where they are not in this cluster."""


class Lease(pulumi.ComponentResource):
    """An account that scales Deployments, edits NetworkPolicies and ConfigMaps, ends chaos and switches machines.

    It creates nothing, reads no secret and sees no pod; what it may touch, it may touch in one namespace each.
    """

    account: Output[str]

    def __init__(self, name: str, args: LeaseArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:lease:Lease", name, {}, opts)
        account = ServiceAccount(
            f"{name}-lease",
            metadata=_metadata(NAME, args, args.namespace),
            opts=ResourceOptions(parent=self),
        )
        self._allow(f"{name}-lease", _metadata(NAME, args, args.namespace), args, account, RIGHTS)
        if args.machine_namespace is not None:
            metadata = _metadata(f"{NAME}-machines", args, args.machine_namespace)
            self._allow(f"{name}-lease-machines", metadata, args, account, MACHINE_RIGHTS)
        self.account = account.metadata.name
        self.register_outputs({"account": self.account})

    def _allow(
        self,
        name: str,
        metadata: ObjectMetaArgs,
        args: LeaseArgs,
        account: ServiceAccount,
        rights: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...],
    ) -> None:
        """The account has these rights in the namespace of `metadata`."""
        role = Role(
            name,
            metadata=metadata,
            rules=[
                PolicyRuleArgs(api_groups=[group], resources=list(resources), verbs=list(verbs))
                for group, resources, verbs in rights
            ],
            opts=ResourceOptions(parent=self),
        )
        RoleBinding(
            name,
            metadata=metadata,
            role_ref=RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name),
            subjects=[SubjectArgs(kind="ServiceAccount", name=account.metadata.name, namespace=args.namespace)],
            opts=ResourceOptions(parent=self),
        )


def _metadata(name: str, args: LeaseArgs, namespace: Input[str]) -> ObjectMetaArgs:
    return ObjectMetaArgs(name=name, namespace=namespace, labels=naming.labels(args.site, NAME))
