"""EKS: node groups, which the site's controller turns into nodes."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of
from lab.providers.aws.eks import GONE, cluster_named
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import at_least, known, matches, one_of
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming

_EFFECTS: Final = {"NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE"}


class NodeGroup(AwsType):
    """Nodes of a cluster; the site's controller turns them into Node objects."""

    type_name = "aws:eks/nodeGroup:NodeGroup"
    naming = Naming(property="nodeGroupName", longest=63, instead=("nodeGroupNamePrefix",))
    replace_on = (
        "clusterName",
        "nodeGroupName",
        "nodeGroupNamePrefix",
        "nodeRoleArn",
        "subnetIds",
        "instanceTypes",
        "amiType",
        "capacityType",
        "diskSize",
        "launchTemplate.id",
        "launchTemplate.name",
        "remoteAccess",
        "region",
    )
    # The version and the template change what EKS says of the group: nodes of the lab are not rolled.
    in_place = ("scalingConfig", "labels", "taints", "forceUpdateVersion", "launchTemplate.version", "version")
    unordered = frozenset({"subnetIds", "taints"})
    blank: ClassVar = {"nodeGroupNamePrefix": "", "nodeRepairConfig": {}, "releaseVersion": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "capacityType", "ON_DEMAND", "SPOT", "CAPACITY_BLOCK")
        yield from matches(inputs, "nodeGroupName", r"[0-9A-Za-z][A-Za-z0-9_-]{0,62}", "names have 1 to 63 characters")
        scaling = inputs.get("scalingConfig")
        if isinstance(scaling, dict):
            yield from _scaling_rules(scaling)
        taints = inputs.get("taints")
        for taint in taints if isinstance(taints, list) else []:
            effect = taint.get("effect") if isinstance(taint, dict) else None
            if known(effect) and effect not in _EFFECTS:
                allowed = ", ".join(sorted(_EFFECTS))
                yield Failure("taints", f"a taint has the effect {effect!r}; allowed are {allowed}: choose one of them")
        template = inputs.get("launchTemplate")
        if isinstance(template, dict) and inputs.get("diskSize"):
            yield Failure("diskSize", "diskSize is set beside launchTemplate; the template decides: remove diskSize")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        cluster, name = inputs["clusterName"], inputs["nodeGroupName"]
        there = cluster_named(cloud, cluster)
        if there is None:
            raise ProviderError(f"node group {name}: cluster {cluster!r} does not exist; declare it first")
        arguments: dict[str, Any] = {
            "clusterName": cluster,
            "nodegroupName": name,
            "nodeRole": inputs["nodeRoleArn"],
            "subnets": inputs["subnetIds"],
            "scalingConfig": inputs["scalingConfig"],
            "labels": inputs.get("labels") or {},
            "taints": inputs.get("taints") or [],
            "tags": tags,
        }
        for key in ("instanceTypes", "amiType", "capacityType", "diskSize", "releaseVersion"):
            if inputs.get(key):
                arguments[key] = inputs[key]
        arguments["version"] = inputs.get("version") or there["version"]  # moto's own default is a version of its own
        if inputs.get("launchTemplate"):
            arguments["launchTemplate"] = _template(inputs["launchTemplate"])
        cloud.client("eks").create_nodegroup(**arguments)
        return f"{cluster}:{name}"

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = _node_group(cloud, identity)
        if found is None:
            return None
        groups = (found.get("resources") or {}).get("autoScalingGroups") or []
        return {
            "amiType": found.get("amiType") or "AL2023_x86_64_STANDARD",
            "arn": found["nodegroupArn"],
            "capacityType": inputs.get("capacityType") or found.get("capacityType") or "ON_DEMAND",
            "clusterName": found["clusterName"],
            "diskSize": 0 if inputs.get("launchTemplate") else int(found.get("diskSize") or 20),
            "instanceTypes": list(found.get("instanceTypes") or []),
            "nodeGroupName": found["nodegroupName"],
            "nodeRoleArn": found["nodeRole"],
            "resources": [{"autoscalingGroups": [{"name": group["name"]} for group in groups]}],
            "scalingConfig": dict(found["scalingConfig"]),
            "status": found["status"],
            "subnetIds": list(found["subnets"]),
            "tagsAll": dict(found.get("tags") or {}),
            "updateConfig": inputs.get("updateConfig") or {"maxUnavailable": 1},
            "version": found["version"],
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        cluster, _, name = identity.partition(":")
        self._upgrade(cloud, identity, old, new)
        arguments: dict[str, Any] = {
            "clusterName": cluster,
            "nodegroupName": name,
            "scalingConfig": new["scalingConfig"],
        }
        before, after = old.get("labels") or {}, new.get("labels") or {}
        if before != after:
            gone = sorted(set(before) - set(after))
            arguments["labels"] = {"addOrUpdateLabels": after, "removeLabels": gone}
        dropped = [taint for taint in old.get("taints") or [] if taint not in (new.get("taints") or [])]
        added = [taint for taint in new.get("taints") or [] if taint not in (old.get("taints") or [])]
        if dropped or added:
            arguments["taints"] = {"addOrUpdateTaints": added, "removeTaints": dropped}
        cloud.client("eks").update_nodegroup_config(**arguments)

    def _upgrade(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """First of all, as the real provider does; a template that changes comes with it, a version may."""
        cluster, _, name = identity.partition(":")
        version, template = new.get("version"), new.get("launchTemplate")
        present = (_node_group(cloud, identity) or {}).get("version")
        if old.get("launchTemplate") == template and (not version or version == present):
            return
        arguments: dict[str, Any] = {"clusterName": cluster, "nodegroupName": name}
        if version and version != present:
            arguments["version"] = version
        if template:
            arguments["launchTemplate"] = _template(template)
        cloud.client("eks").update_nodegroup_version(**arguments, force=bool(new.get("forceUpdateVersion")))

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if _node_group(cloud, identity) is not None:
            cluster, _, name = identity.partition(":")
            cloud.client("eks").delete_nodegroup(clusterName=cluster, nodegroupName=name)

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        cluster = inputs["clusterName"]
        if cluster_named(cloud, cluster) is None:
            return
        for name in cloud.client("eks").list_nodegroups(clusterName=cluster)["nodegroups"]:
            identity = f"{cluster}:{name}"
            yield identity, (_node_group(cloud, identity) or {}).get("tags", {}).get(MARKER_TAG)

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        cluster, _, name = identity.partition(":")
        return {"clusterName": cluster, "nodeGroupName": name}

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        raise ProviderError(
            f"node group {identity}: its tags change; moto cannot tag a node group again:"
            " bring the lab up anew (tandem lab down, tandem lab up)"
        )


def _template(given: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in given.items() if value}


def _scaling_rules(scaling: dict[str, Any]) -> Iterator[Failure]:
    for name, low in (("minSize", 0), ("maxSize", 1), ("desiredSize", 0)):
        for failure in at_least(scaling, name, low):
            yield Failure(f"scalingConfig.{name}", failure.reason)
    given = [scaling.get(name) for name in ("minSize", "desiredSize", "maxSize")]
    sizes = [size for size in given if isinstance(size, int)]
    if len(sizes) == len(given) and sizes != sorted(sizes):
        reason = f"scalingConfig has min, desired, max {sizes}; they have to rise in this order: correct them"
        yield Failure("scalingConfig.desiredSize", reason)


def _node_group(cloud: Cloud, identity: str) -> dict[str, Any] | None:
    cluster, _, name = identity.partition(":")
    try:
        answer = cloud.client("eks").describe_nodegroup(clusterName=cluster, nodegroupName=name)
    except ClientError as error:
        if code_of(error) in GONE:
            return None
        raise
    return dict(answer["nodegroup"])


TYPES: Final = (NodeGroup,)
