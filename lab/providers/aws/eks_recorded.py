"""EKS: add-ons, access entries and identities of pods, which moto has no API for: recorded, acted on by nobody."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lab.providers.aws.cloud import Cloud
from lab.providers.aws.eks import cluster_named
from lab.providers.aws.recorded import ACCOUNT, MOMENT, Recorded
from lab.providers.aws.rules import document, known, matches, one_of
from lab.providers.errors import Failure, ProviderError

ROLE: Final = r"arn:[^:]+:iam::\d{12}:role/.+"
NAMES: Final = {
    "vpc-cni": "v1.20.4-eksbuild.1",
    "kube-proxy": "v1.34.0-eksbuild.2",
    "coredns": "v1.12.4-eksbuild.1",
    "eks-pod-identity-agent": "v1.3.9-eksbuild.3",
    "metrics-server": "v0.8.0-eksbuild.2",
}
"""Add-ons there are, with the version a cluster gets that asks for none."""


class OfCluster(Recorded):
    """A thing of a cluster, which has to be there."""

    keys: ClassVar[tuple[str, ...]]
    """Inputs that name it, the cluster first."""

    def identity(self, inputs: dict[str, Any]) -> str:
        return ":".join(str(inputs[key]) for key in self.keys)

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        name = inputs["clusterName"]
        if cluster_named(cloud, name) is None:
            raise ProviderError(f"{self.type_name}: cluster {name!r} does not exist; declare it first")
        return super().create(cloud, inputs, tags)

    def arn(self, cloud: Cloud, kind: str, identity: str, number: int) -> str:
        """An ARN like EKS's."""
        cluster, _, rest = identity.partition(":")
        return f"arn:aws:eks:{cloud.region}:{ACCOUNT}:{kind}/{cluster}/{rest.rpartition('/')[2]}/{number:08x}"


class Addon(OfCluster):
    """Software EKS installs; the lab's kubelet and network do what these would."""

    type_name = "aws:eks/addon:Addon"
    keys = ("clusterName", "addonName")
    replace_on = ("clusterName", "addonName", "region")
    in_place = (
        "addonVersion",
        "configurationValues",
        "preserve",
        "resolveConflictsOnCreate",
        "resolveConflictsOnUpdate",
        "serviceAccountRoleArn",
        "podIdentityAssociations",
    )
    documents = frozenset({"configurationValues"})
    blank: ClassVar = {"configurationValues": "", "namespaceConfig": {}}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "addonName", *NAMES)
        yield from one_of(inputs, "resolveConflictsOnCreate", "NONE", "OVERWRITE")
        yield from one_of(inputs, "resolveConflictsOnUpdate", "NONE", "OVERWRITE", "PRESERVE")
        if known(inputs.get("configurationValues")):
            yield from document(inputs, "configurationValues")

    def computed(self, cloud: Cloud, identity: str, inputs: dict[str, Any], number: int) -> dict[str, Any]:
        return {
            "addonVersion": inputs.get("addonVersion") or NAMES.get(inputs["addonName"], ""),
            "arn": self.arn(cloud, "addon", identity, number),
            "createdAt": MOMENT,
            "modifiedAt": MOMENT,
        }


class AccessEntry(OfCluster):
    """Somebody the cluster knows; the lab's APIs ask nobody who they are."""

    type_name = "aws:eks/accessEntry:AccessEntry"
    keys = ("clusterName", "principalArn")
    replace_on = ("clusterName", "principalArn", "type", "region")
    in_place = ("kubernetesGroups", "userName")
    blank: ClassVar = {"type": "STANDARD", "kubernetesGroups": []}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(inputs, "principalArn", r"arn:[^:]+:iam::\d{12}:.+", "an entry names a role or user")

    def computed(self, cloud: Cloud, identity: str, inputs: dict[str, Any], number: int) -> dict[str, Any]:
        return {
            "accessEntryArn": self.arn(cloud, "access-entry", identity, number),
            "createdAt": MOMENT,
            "modifiedAt": MOMENT,
            "userName": inputs.get("userName") or inputs["principalArn"],
        }


class AccessPolicyAssociation(OfCluster):
    """What somebody may do; the lab's APIs let everybody do everything."""

    type_name = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
    keys = ("clusterName", "principalArn", "policyArn")
    replace_on = ("clusterName", "principalArn", "policyArn", "accessScope", "region")

    def identity(self, inputs: dict[str, Any]) -> str:
        """See OfCluster; the provider puts these together in its own way."""
        return "#".join(str(inputs[key]) for key in self.keys)

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        wanted = r"arn:aws:eks::aws:cluster-access-policy/.+"
        yield from matches(inputs, "policyArn", wanted, "access policies are EKS's own")

    def computed(self, cloud: Cloud, identity: str, inputs: dict[str, Any], number: int) -> dict[str, Any]:
        return {"associatedAt": MOMENT, "modifiedAt": MOMENT}


class PodIdentityAssociation(OfCluster):
    """The role a service account's pods have; the lab's stores ask nobody who they are."""

    type_name = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
    keys = ("clusterName", "namespace", "serviceAccount")
    replace_on = ("clusterName", "namespace", "serviceAccount", "region")
    in_place = ("roleArn", "targetRoleArn", "disableSessionTags")
    blank: ClassVar = {"disableSessionTags": False, "externalId": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(inputs, "roleArn", ROLE, "pods get a role")

    def computed(self, cloud: Cloud, identity: str, inputs: dict[str, Any], number: int) -> dict[str, Any]:
        return {
            "associationArn": self.arn(cloud, "podidentityassociation", identity, number),
            "associationId": f"a-{number:017x}",
        }


TYPES: Final = (Addon, AccessEntry, AccessPolicyAssociation, PodIdentityAssociation)
