"""New nodes come before the old ones go: the lab answers so."""

from __future__ import annotations

from typing import Any

import pytest

from infra.settings_pool_public import BOTTLEROCKET
from lab.providers.aws.cloud import Cloud
from lab.providers.aws.eks_nodes import NodeGroup
from lab.topology import Topology


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
