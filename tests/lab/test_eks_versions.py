"""A cluster goes to the next Kubernetes version in place, its nodes after it; EKS's refusals in its own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from test_providers_protocol import Made, Session, aws_settings, port, refusal
from test_traffic_stack import Line, url

from lab.aws import eks

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

__all__ = ["port", "url"]

CLUSTER, GROUP, TEMPLATE = (
    "aws:eks/cluster:Cluster",
    "aws:eks/nodeGroup:NodeGroup",
    "aws:ec2/launchTemplate:LaunchTemplate",
)
ROLE = "arn:aws:iam::123456789012:role/nodes"
DECLARED = {"name": "versions", "roleArn": ROLE, "tags": {"tandem.io/site": "public"}}


@pytest.mark.parametrize(
    ("wanted", "groups", "reason"),
    [
        ("1.35", {"a": "1.34"}, None),
        ("1.35", {}, None),
        ("1.36", {"a": "1.34"}, "Unsupported Kubernetes minor version update from 1.34 to 1.36"),
        ("1.33", {"a": "1.33"}, "Unsupported Kubernetes minor version update from 1.34 to 1.33"),
        ("1.34", {}, "Unsupported Kubernetes minor version update from 1.34 to 1.34"),
        ("1.35.1", {}, "unsupported Kubernetes version"),
        ("", {}, "unsupported Kubernetes version"),
        (
            "1.35",
            {"b": "1.33", "a": "1.32", "c": "1.34"},
            "Nodegroups a, b must be updated to match cluster version 1.34",
        ),
    ],
)
def test_a_control_plane_goes_one_minor_up_and_waits_for_its_nodes(
    wanted: str, groups: dict[str, str], reason: str | None
) -> None:
    refused = eks.refuse_cluster("1.34", wanted, groups)
    assert (refused is None) == (reason is None)
    assert refused is None or str(reason) in refused.message


@pytest.mark.parametrize(
    ("current", "wanted", "reason"),
    [
        ("1.34", "1.35", None),
        ("1.33", "1.35", None),
        ("1.35", "1.35", None),
        ("1.35", "1.36", "ahead of cluster version 1.35"),
        ("1.35", "1.34", "cannot be rolled back to 1.34"),
        ("1.35", "latest", "unsupported Kubernetes version"),
    ],
)
def test_nodes_are_never_ahead_of_the_control_plane_and_never_go_back(
    current: str, wanted: str, reason: str | None
) -> None:
    refused = eks.refuse_group("1.35", current, wanted)
    assert (refused is None) == (reason is None)
    assert refused is None or str(reason) in refused.message


@pytest.fixture(scope="module")
def session(port: int, url: str) -> Iterator[Session]:
    session = Session(port, "aws", aws_settings(url))
    yield session
    session.close()


def test_another_version_is_an_update_that_arrives_and_what_eks_refuses_is_told_in_its_words(session: Session) -> None:
    vpc = session.up("aws:ec2/vpc:Vpc", "v", cidrBlock="10.9.0.0/16")
    zones = ("eu-central-1a", "eu-central-1b")
    subnets = [
        session.up("aws:ec2/subnet:Subnet", zone, vpcId=vpc.identity, cidrBlock=f"10.9.{n}.0/24", availabilityZone=zone)
        for n, zone in enumerate(zones)
    ]
    where = [each.identity for each in subnets]
    cluster_inputs: dict[str, Any] = {**DECLARED, "vpcConfig": {"subnetIds": where}}
    cluster = session.up(CLUSTER, "c", **cluster_inputs, version="1.34")
    template = session.up(TEMPLATE, "t", tags={"a": "b"})
    group_inputs: dict[str, Any] = {
        "clusterName": "versions",
        "nodeRoleArn": ROLE,
        "subnetIds": where,
        "scalingConfig": {"minSize": 0, "desiredSize": 1, "maxSize": 1},
    }
    launch = {"id": template.identity, "version": "1"}
    group = session.up(GROUP, "g", **group_inputs, launchTemplate=launch)
    assert group.state["version"] == "1.34", "a group that names no version has its cluster's"

    def refused(made: Made, /, **inputs: Any) -> str:
        with pytest.raises(grpc.RpcError) as error:
            session.update(made, **inputs)
        return refusal(error)

    answer = session.diff(cluster, **cluster_inputs, version="1.35")
    assert list(answer.replaces) == []
    assert "minor version update from 1.34 to 1.36" in refused(cluster, **cluster_inputs, version="1.36")
    assert "minor version update from 1.34 to 1.33" in refused(cluster, **cluster_inputs, version="1.33")
    ahead = {**group_inputs, "launchTemplate": launch, "version": "1.35"}
    assert "ahead of cluster version 1.34" in refused(group, **ahead)
    newer = session.update(cluster, **cluster_inputs, version="1.35")
    assert session.read(newer)[1]["version"] == "1.35"
    again = session.update(cluster, **cluster_inputs, version="1.35")
    assert again.state["version"] == "1.35", "an `up` that died after the upgrade is not refused the next time"
    assert "InvalidRequestException: Nodegroups g-" in refused(newer, **cluster_inputs, version="1.36")
    followed = session.update(group, **ahead)
    assert session.read(followed)[1]["version"] == "1.35"
    assert "cannot be rolled back" in refused(followed, **{**ahead, "version": "1.34"})
    rolled = session.update(followed, **{**ahead, "launchTemplate": {**launch, "version": "2"}})
    assert rolled.state["launchTemplate"]["version"] == "2"
    for each in (rolled, template, newer, *reversed(subnets), vpc):
        session.delete(each)


def written(url: str, since: int) -> tuple[list[str], int]:
    """Which calls of EKS changed something since then, in their order."""
    with httpx.Client(trust_env=False) as client:
        found = client.get(f"{url}/tandem/requests", params={"since": since, "writes": "true"}).json()
    return [each["action"] for each in found["requests"] if each["service"] == "eks"], found["latest"]


# Two whole runs of the engine: what counts is the order in which the program of the public site declares.
def test_the_public_sites_cluster_is_upgraded_in_place_and_new_nodes_are_there_before_old_ones_go(
    tmp_path_factory: pytest.TempPathFactory, url: str, port: int
) -> None:
    line = Line(tmp_path_factory.mktemp("pool"), url, port, "pool-public.lab")
    line.run("up")
    _, latest = written(url, 0)
    pools = [{"name": "gpu", "min": 2, "desired": 2, "max": 3, "instance_types": ["g5.xlarge"]}]
    line.run("up", kubernetes_version="1.35", gpu_pools=pools)
    calls, _ = written(url, latest)
    assert calls[0] == "UpdateClusterVersion", "nodes are never ahead"
    assert not {"CreateCluster", "DeleteCluster"} & set(calls)
    assert Counter(calls)["UpdateNodegroupVersion"] == 1, "nodes of the system are rolled by EKS"
    assert Counter(calls)["CreateNodegroup"] == Counter(calls)["DeleteNodegroup"] == 1
    assert calls.index("CreateNodegroup") < calls.index("DeleteNodegroup")
