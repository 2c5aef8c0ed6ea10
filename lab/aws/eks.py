"""EKS's change of a Kubernetes version, which moto has no call for: one minor up, nodes never ahead, never back.

Only what EKS says of cluster and node group changes: the site's API and its nodes stay what they are. Taking a control
plane back within seven days (https://docs.aws.amazon.com/eks/latest/userguide/rollback-cluster.html) is not there.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from moto.eks.models import EKSBackend, eks_backends

from lab.aws.server import ACCOUNT

PARAMETER: Final = "InvalidParameterException"
REQUEST: Final = "InvalidRequestException"
MISSING: Final = "ResourceNotFoundException"

_CLUSTER: Final = re.compile(r"/clusters/(?P<cluster>[^/]+)/updates/?")
_GROUP: Final = re.compile(r"/clusters/(?P<cluster>[^/]+)/node-groups/(?P<group>[^/]+)/update-version/?")
_VERSION: Final = re.compile(r"1\.\d{2}")
_REGION: Final = re.compile(r"/(?P<region>[^/,\s]+)/eks/aws4_request")
_changing: Final = threading.Lock()


@dataclass(frozen=True)
class Refused:
    """Why EKS would not do it: its error and what it says."""

    code: str
    message: str
    status: int = 400


def answer(environ: Mapping[str, Any], body: bytes) -> Refused | dict[str, Any] | None:
    """What EKS answers to a change of version; None for any other call."""
    path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD", "")
    cluster, group = _CLUSTER.fullmatch(path), _GROUP.fullmatch(path)
    asked = cluster or group
    region = _REGION.search(environ.get("HTTP_AUTHORIZATION", ""))
    if method != "POST" or asked is None or region is None:
        return None
    try:
        wanted = json.loads(body or b"{}")
    except ValueError:
        return Refused("SerializationException", "the body is no JSON document")
    backend: EKSBackend = eks_backends[ACCOUNT][region["region"]]
    with _changing:
        known = backend.clusters.get(asked["cluster"])
        if known is None:
            return Refused(MISSING, f"No cluster found for name: {asked['cluster']}.", 404)
        if group is None:
            return _upgrade_cluster(known, wanted)
        found = known.nodegroups.get(group["group"])
        if found is None:
            return Refused(MISSING, f"No node group found for name: {group['group']}.", 404)
        return _upgrade_group(known, found, wanted)


def refuse_cluster(current: str, wanted: str, groups: Mapping[str, str]) -> Refused | None:
    """Why a control plane may not go from one version to another while its node groups have theirs.

    Sources: https://docs.aws.amazon.com/eks/latest/userguide/update-cluster.html; EKS's words as people met them:
    https://github.com/rancher/rancher/issues/26908, https://github.com/rancher/rancher/issues/41643,
    https://github.com/hashicorp/terraform-provider-aws/issues/38796,
    https://github.com/hashicorp/terraform-provider-aws/issues/19478.
    """
    if not _VERSION.fullmatch(wanted):
        return Refused(PARAMETER, "unsupported Kubernetes version")
    if minor(wanted) != minor(current) + 1:
        return Refused(PARAMETER, f"Unsupported Kubernetes minor version update from {current} to {wanted}")
    others = [name for name, version in sorted(groups.items()) if version != current]
    if others:
        reason = f"must be updated to match cluster version {current} before updating cluster version"
        return Refused(REQUEST, f"Nodegroups {', '.join(others)} {reason}")
    return None


def refuse_group(cluster: str, current: str, wanted: str) -> Refused | None:
    """Why a node group of a cluster may not go from one version to another; the words are the lab's own.

    Source: https://docs.aws.amazon.com/eks/latest/APIReference/API_UpdateNodegroupVersion.html.
    """
    if not _VERSION.fullmatch(wanted):
        return Refused(PARAMETER, "unsupported Kubernetes version")
    if minor(wanted) > minor(cluster):
        return Refused(PARAMETER, f"Nodegroup version {wanted} is ahead of cluster version {cluster}: upgrade it first")
    if minor(wanted) < minor(current):
        return Refused(PARAMETER, f"Nodegroup version {current} cannot be rolled back to {wanted}")
    return None


def minor(version: str) -> int:
    """The second number of a version."""
    return int(version.split(".")[1])


def _upgrade_cluster(cluster: Any, wanted: Mapping[str, Any]) -> Refused | dict[str, Any]:
    version = str(wanted.get("version") or "")
    groups = {name: str(group.version) for name, group in cluster.nodegroups.items()}
    refused = refuse_cluster(str(cluster.version), version, groups)
    if refused is not None:
        return refused
    cluster.version = version
    return _done(version)


def _upgrade_group(cluster: Any, group: Any, wanted: Mapping[str, Any]) -> Refused | dict[str, Any]:
    version = str(wanted.get("version") or cluster.version)
    refused = refuse_group(str(cluster.version), str(group.version), version)
    if refused is not None:
        return refused
    group.version = version
    if wanted.get("launchTemplate"):
        group.launch_template = {**(group.launch_template or {}), **wanted["launchTemplate"]}
    return _done(version)


def _done(version: str) -> dict[str, Any]:
    """An update that is over as soon as it is asked for."""
    update = {
        "id": str(uuid.uuid4()),
        "status": "Successful",
        "type": "VersionUpdate",
        "params": [{"type": "Version", "value": version}],
        "createdAt": datetime.now(UTC).timestamp(),
        "errors": [],
    }
    return {"update": update}
