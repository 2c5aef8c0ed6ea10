"""IAM: roles and the policies attached to them."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of, from_tag_list, to_tag_list
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import between, document, matches
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming

_GONE: Final = {"NoSuchEntity"}


class Role(AwsType):
    """A role; policies are attached by resources of their own."""

    type_name = "aws:iam/role:Role"
    naming = Naming(longest=64, instead=("namePrefix",))
    defaults: ClassVar = {"forceDetachPolicies": False, "maxSessionDuration": 3600, "path": "/"}
    replace_on = ("name", "namePrefix", "path")
    in_place = (
        "assumeRolePolicy",
        "description",
        "forceDetachPolicies",
        "maxSessionDuration",
        "permissionsBoundary",
    )
    documents = frozenset({"assumeRolePolicy"})
    blank: ClassVar = {"namePrefix": "", "inlinePolicies": []}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(inputs, "name", r"[\w+=,.@-]{1,64}", "role names have 1 to 64 letters, digits and +=,.@-_")
        yield from between(inputs, "maxSessionDuration", 3600, 43200)
        yield from document(inputs, "assumeRolePolicy")
        for name in ("inlinePolicies", "managedPolicyArns"):
            if inputs.get(name):
                yield Failure(
                    name, f"{name} inside the role drifts; the lab takes RolePolicyAttachment only: declare one"
                )

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        arguments: dict[str, Any] = {
            "RoleName": inputs["name"],
            "Path": inputs["path"],
            "AssumeRolePolicyDocument": inputs["assumeRolePolicy"],
            "Description": inputs.get("description") or "",
            "MaxSessionDuration": inputs["maxSessionDuration"],
            "Tags": to_tag_list(tags),
        }
        if inputs.get("permissionsBoundary"):
            arguments["PermissionsBoundary"] = inputs["permissionsBoundary"]
        name: str = cloud.client("iam").create_role(**arguments)["Role"]["RoleName"]
        return name

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        iam = cloud.client("iam")
        try:
            role = iam.get_role(RoleName=identity)["Role"]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        attached = iam.list_attached_role_policies(RoleName=identity)["AttachedPolicies"]
        trust = role["AssumeRolePolicyDocument"]
        return {
            "name": role["RoleName"],
            "arn": role["Arn"],
            "assumeRolePolicy": inputs.get("assumeRolePolicy")
            or (trust if isinstance(trust, str) else json.dumps(trust)),
            "createDate": role["CreateDate"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "managedPolicyArns": [policy["PolicyArn"] for policy in attached],
            "maxSessionDuration": role.get("MaxSessionDuration", 3600),
            "path": role["Path"],
            "permissionsBoundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""),
            "tagsAll": from_tag_list(role.get("Tags")),
            "uniqueId": role["RoleId"],
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        iam = cloud.client("iam")
        iam.update_assume_role_policy(RoleName=identity, PolicyDocument=new["assumeRolePolicy"])
        iam.update_role(
            RoleName=identity, Description=new.get("description") or "", MaxSessionDuration=new["maxSessionDuration"]
        )
        boundary = new.get("permissionsBoundary")
        if boundary and boundary != old.get("permissionsBoundary"):
            iam.put_role_permissions_boundary(RoleName=identity, PermissionsBoundary=boundary)
        elif old.get("permissionsBoundary") and not boundary:
            iam.delete_role_permissions_boundary(RoleName=identity)

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        iam = cloud.client("iam")
        if tags:
            iam.tag_role(RoleName=identity, Tags=to_tag_list(tags))
        if removed:
            iam.untag_role(RoleName=identity, TagKeys=removed)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        iam = cloud.client("iam")
        try:
            if state.get("forceDetachPolicies"):
                for policy in iam.list_attached_role_policies(RoleName=identity)["AttachedPolicies"]:
                    iam.detach_role_policy(RoleName=identity, PolicyArn=policy["PolicyArn"])
            iam.delete_role(RoleName=identity)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        iam = cloud.client("iam")
        for page in iam.get_paginator("list_roles").paginate():
            for role in page["Roles"]:
                tags = from_tag_list(iam.list_role_tags(RoleName=role["RoleName"])["Tags"])
                yield role["RoleName"], tags.get(MARKER_TAG)


class RolePolicyAttachment(AwsType):
    """One policy on one role; attaching twice is attaching once."""

    type_name = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    replace_on = ("role", "policyArn")

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(inputs, "policyArn", r"arn:[^:]+:iam::[^:]*:policy/.+", "policies are named by their ARN")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        role, policy = inputs["role"].rpartition("/")[2], inputs["policyArn"]
        try:
            cloud.client("iam").attach_role_policy(RoleName=role, PolicyArn=policy)
        except ClientError as error:
            if code_of(error) in _GONE:
                raise ProviderError(
                    f"role {role!r} or policy {policy!r} does not exist; both have to: correct the name"
                ) from error
            raise
        return f"{role}/{policy}"

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        role, _, policy = identity.partition("/")
        try:
            attached = cloud.client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        found = any(item["PolicyArn"] == policy for item in attached)
        return {"role": inputs.get("role") or role, "policyArn": policy} if found else None

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Nothing changes in place."""

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        role, _, policy = identity.partition("/")
        try:
            cloud.client("iam").detach_role_policy(RoleName=role, PolicyArn=policy)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise


class RolePolicy(AwsType):
    """A policy written into one role."""

    type_name = "aws:iam/rolePolicy:RolePolicy"
    naming = Naming(longest=128, instead=("namePrefix",))
    replace_on = ("name", "namePrefix", "role")
    in_place = ("policy",)
    documents = frozenset({"policy"})
    blank: ClassVar = {"namePrefix": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from document(inputs, "policy")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        role, name = inputs["role"].rpartition("/")[2], inputs["name"]
        try:
            cloud.client("iam").put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=inputs["policy"])
        except ClientError as error:
            if code_of(error) in _GONE:
                raise ProviderError(f"role {role!r} does not exist; a policy needs one: correct the name") from error
            raise
        return f"{role}:{name}"

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        role, _, name = identity.partition(":")
        try:
            found = cloud.client("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        policy = found if isinstance(found, str) else json.dumps(found)
        return {"role": inputs.get("role") or role, "name": name, "policy": policy}

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        role, _, name = identity.partition(":")
        cloud.client("iam").put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=new["policy"])

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        role, _, name = identity.partition(":")
        try:
            cloud.client("iam").delete_role_policy(RoleName=role, PolicyName=name)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise


TYPES: Final = (Role, RolePolicy, RolePolicyAttachment)
