"""New nodes come before the old ones go: declared without what would turn that round, and answered so by the lab."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra.public_pool import PublicPool, PublicPoolArgs
from infra.settings_pool_public import BOTTLEROCKET, InstancePool
from lab.providers.aws.cloud import Cloud
from lab.providers.aws.eks_nodes import NodeGroup
from lab.topology import Topology
from tests.infra.recording import Graph, run

POOL = InstancePool(name="gpu", instance_types=("g6.xlarge", "g5.xlarge"), min=1, desired=2, max=4)


def declared() -> Graph:
    def declare() -> pulumi.Output[str]:
        args = PublicPoolArgs(
            cluster_name="public",
            kubernetes_version="1.34",
            region="eu-central-1",
            subnet_ids=[pulumi.Output.from_input("subnet-1"), pulumi.Output.from_input("subnet-2")],
            system_instance_type="m7i.large",
            system_nodes=2,
            zones=("eu-central-1a", "eu-central-1b"),
            pools=(POOL,),
            tags={},
        )
        return PublicPool("public", args).kubeconfig

    return run(declare)


@pytest.mark.parametrize("name", ["public-gpu", "public-system"])
def test_two_node_groups_of_one_role_can_stand_side_by_side(name: str) -> None:
    graph = declared()
    group, request = graph.one("NodeGroup", name), graph.request("NodeGroup", name)
    assert "nodeGroupName" not in group, "a name of its own would have to be free before the new one can take it"
    assert not request.deleteBeforeReplaceDefined
    assert "name" not in graph.one("LaunchTemplate", name)


@pytest.mark.parametrize(
    ("changed", "replaced"),
    [
        ({"instanceTypes": ["g5.xlarge", "g6.xlarge"]}, True),
        ({"amiType": BOTTLEROCKET}, True),
        ({"version": "1.35"}, False),
    ],
    ids=["instance list", "image", "version"],
)
def test_types_and_images_replace_a_node_group_new_first_and_a_version_rolls_its_nodes(
    changed: dict[str, Any], replaced: bool
) -> None:
    old = {
        "clusterName": "public",
        "instanceTypes": ["g6.xlarge", "g5.xlarge"],
        "amiType": "AL2023_x86_64_NVIDIA",
        "version": "1.34",
        "nodeGroupName": "public-gpu-1234567",
        "__defaults": ["nodeGroupName"],
    }
    found = NodeGroup().differ(Cloud({"region": "eu-central-1"}, Topology.default()), {}, old, {**old, **changed})
    assert bool(found.replaces) is replaced
    assert not found.delete_first
