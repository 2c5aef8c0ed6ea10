"""What a public site's pool may be told, and what it says to the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra.checks import SettingError
from infra.settings_pool_public import SPOT, AccessEntry, InstancePool, PublicPoolSettings

ADMIN = "AmazonEKSClusterAdminPolicy"
SOMEBODY = "arn:aws:iam::111122223333:role/somebody"


def settings(**changes: Any) -> PublicPoolSettings:
    given: dict[str, Any] = {
        "site": "public",
        "kind": "public",
        "region": "eu-central-1",
        "cluster_name": "public",
        "zones": ("eu-central-1a", "eu-central-1b"),
        "kubernetes_version": "1.34",
        "gpu_pools": (InstancePool(name="gpu"),),
    }
    return PublicPoolSettings(**{**given, **changes})


def pool(**changes: Any) -> tuple[InstancePool, ...]:
    return (replace(InstancePool(name="gpu"), **changes),)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpu_pools": ()}, "gpu_pools is empty"),
        ({"gpu_pools": pool() * 2}, "each is taken once"),
        ({"gpu_pools": pool(instance_types=())}, r"gpu_pools\[0\].instance_types is empty"),
        ({"gpu_pools": pool(instance_types=("m7i.large",))}, "m7i.large.*not known to have a GPU"),
        ({"gpu_pools": pool(capacity="cheap")}, r"gpu_pools\[0\].capacity"),
        ({"gpu_pools": pool(image="AL2_x86_64_GPU")}, r"gpu_pools\[0\].image"),
        ({"gpu_pools": pool(min=3)}, r"gpu_pools\[0\].min"),
        ({"gpu_pools": pool(desired=3)}, r"gpu_pools\[0\].desired"),
        ({"gpu_pools": pool(min=2, autoscaled=True)}, "nothing to scale between"),
        ({"gpu_pools": pool(disk_gib=10)}, "disk_gib"),
        ({"gpu_pools": pool(reserve_in="eu-central-1a")}, "what is reserved is on demand and of one type"),
        (
            {"gpu_pools": pool(reserve_in="eu-central-1a", instance_types=("g6.xlarge",), capacity=SPOT)},
            "what is reserved is on demand",
        ),
        ({"gpu_pools": pool(reserve_in="eu-central-1c", instance_types=("g6.xlarge",), min=1)}, "reserve_in"),
        ({"gpu_pools": pool(reserve_in="eu-central-1a", instance_types=("g6.xlarge",), min=0)}, "which is reserved"),
        ({"gpu_pools": pool(reservation="mine", instance_types=("g6.xlarge",))}, "id of a capacity reservation"),
        (
            {"gpu_pools": pool(reservation="cr-0123456789abcdef0", reserve_in="eu-central-1a")},
            "from one reservation",
        ),
        ({"access_entries": (AccessEntry(principal="somebody"),)}, r"access_entries\[0\].principal"),
        ({"access_entries": (AccessEntry(principal=SOMEBODY, policy="All"),)}, r"access_entries\[0\].policy"),
        ({"access_entries": (AccessEntry(principal=SOMEBODY),) * 2}, "each principal has one entry"),
        (
            {"access_entries": (AccessEntry(principal=SOMEBODY, policy=ADMIN, namespaces=("a",)),)},
            "for the whole cluster",
        ),
        (
            {
                "access_entries": (
                    AccessEntry(principal=SOMEBODY),
                    AccessEntry(principal=SOMEBODY.replace("1111", "4444")),
                )
            },
            "end alike",
        ),
        ({"creator_is_admin": False}, "nobody could ever"),
        ({"addons": {"dns": "v1"}}, "add-on"),
        ({"addons_elsewhere": ("dns",)}, "add-on"),
        ({"private_subnet_ids": ("subnet-1",)}, "name that one too"),
        ({"vpc_id": "vpc-1", "public_subnet_ids": ("a", "b"), "private_subnet_ids": ("c",)}, "one of each in every"),
        ({"flow_log_days": 31}, "flow_log_days"),
        ({"zones": ("eu-central-1a",)}, "two to four"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_exists(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        settings(**changes)


def test_somebody_else_may_administer_the_cluster_than_who_made_it() -> None:
    assert settings(creator_is_admin=False, access_entries=(AccessEntry(principal=SOMEBODY, policy=ADMIN),))


def test_spot_nodes_and_the_richer_types_are_not_counted_on() -> None:
    pools = (
        InstancePool(name="firm", instance_types=("g6.12xlarge", "g5.xlarge"), min=3, desired=3, max=3),
        InstancePool(name="cheap", capacity=SPOT, min=5, desired=5, max=5),
        InstancePool(name="late", min=0, desired=2, max=4),
    )
    assert settings(gpu_pools=pools).firm_gpus == 3
