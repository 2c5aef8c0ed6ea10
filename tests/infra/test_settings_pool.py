"""What the pool settings of a private site allow, and what their nested lists come to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from infra import checks
from infra.checks import SettingError
from infra.settings_pool import AdoptedPool, MachinePool, PrivatePoolSettings

KUBECONFIG: dict[str, Any] = {
    "clusters": [{"name": "a", "cluster": {"server": "https://api.example"}}],
    "users": [{"name": "a", "user": {}}],
    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    "current-context": "a",
}


def settings(**changes: Any) -> PrivatePoolSettings:
    given: dict[str, Any] = {
        "site": "edge",
        "kind": "private",
        "cluster_name": "edge",
        "kubeconfig": KUBECONFIG,
        "management_kubeconfig": KUBECONFIG,
        "kubernetes_version": "1.34.0",
        "gpu_pools": (MachinePool(name="gpu"),),
        "edge_address": "10.0.8.10",
        **changes,
    }
    return PrivatePoolSettings(**given)


def adopting(**changes: Any) -> PrivatePoolSettings:
    given: dict[str, Any] = {
        "pool_mode": "adopt",
        "gpu_pools": (),
        "management_kubeconfig": {},
        "kubernetes_version": "",
        "adopted_pools": (AdoptedPool(name="gpu", nodes=("gpu-1", "gpu-2"), gpu_count=4),),
        **changes,
    }
    return settings(**given)


def test_a_site_counts_on_the_fewest_machines_of_each_pool() -> None:
    pools = (
        MachinePool(name="a", gpu_count=4, min=1),
        MachinePool(name="b", gpu_count=8, min=0),
        MachinePool(name="c"),
    )
    assert settings(gpu_pools=pools).firm_gpus == 4


def test_nodes_that_exist_are_counted_on_all_of_them() -> None:
    assert adopting().firm_gpus == 8


def test_the_world_reaches_a_site_at_the_address_of_the_nat_before_it() -> None:
    assert settings().public_address == "10.0.8.10"
    assert settings(edge_public_address="192.0.2.10").public_address == "192.0.2.10"


def test_an_external_load_balancer_is_a_port_of_the_nodes() -> None:
    assert settings(edge_mode="external", edge_node_port=30443).edge_node_port == 30443
    with pytest.raises(SettingError, match="nothing is announced there"):
        settings(edge_mode="external", edge_node_port=30443, edge_interfaces=("eth0",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adopted_pools": ()}, "adopted_pools is empty"),
        ({"management_kubeconfig": KUBECONFIG}, "management_kubeconfig is set and pool_mode is adopt"),
        ({"kubernetes_version": "1.34.0"}, "kubernetes_version is set and pool_mode is adopt"),
        ({"adopted_pools": (AdoptedPool(name="gpu", nodes=()),)}, r"adopted_pools\[0\]\.nodes is empty"),
        ({"adopted_pools": (AdoptedPool(name="gpu", nodes=("GPU_1",)),)}, "kubectl get nodes"),
        ({"adopted_pools": (AdoptedPool(name="gpu", nodes=("a",), gpu_count=0),)}, "gpu_count is 0"),
        ({"adopted_pools": (AdoptedPool(name="gpu", nodes=("a",), labels={"rack/": "b"}),)}, "respell"),
        (
            {"adopted_pools": (AdoptedPool(name="gpu", nodes=("a",)), AdoptedPool(name="old", nodes=("b", "a")))},
            "'a' is named twice",
        ),
    ],
    ids=["no pool", "management", "version", "no node", "bad name", "no GPU", "bad label", "one node twice"],
)
def test_what_cannot_be_adopted_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        adopting(**changes)


def test_a_name_too_long_for_the_machines_is_refused_before_there_are_any() -> None:
    with pytest.raises(SettingError, match="name of the machines of pool"):
        settings(cluster_name="c" * 40, gpu_pools=(MachinePool(name="p" * 30),))


@dataclass(frozen=True, kw_only=True)
class _Entry:
    name: str
    count: int = 1
    on: bool = False
    share: float = 1.0
    tags: tuple[str, ...] = ()


def test_entries_of_a_list_are_typed_as_their_fields_are() -> None:
    raw = json.dumps([{"name": "a", "count": "4", "on": True, "share": 0.5, "tags": ["x"]}, {"name": "b"}])
    assert checks.parse("pools", raw, tuple[_Entry, ...]) == (
        _Entry(name="a", count=4, on=True, share=0.5, tags=("x",)),
        _Entry(name="b"),
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([{"name": "a", "colour": 1}], r"pools\[0\]\.colour is not known; its keys are name, count, on, share, tags"),
        ([{"name": "a"}, {"count": 1}], r"pools\[1\]\.name has no value"),
        ([{"name": "a", "count": 1.5}], r"pools\[0\]\.count is '1.5'; it is a whole number"),
        ([{"name": "a", "on": "perhaps"}], r"pools\[0\]\.on .* true or false"),
        ([{"name": "a", "tags": "x"}], r"pools\[0\]\.tags .* list of strings"),
        (["a"], "no list of maps"),
        ("a", "no list of maps"),
    ],
    ids=["unknown", "missing", "fraction", "not a yes or no", "text for a list", "not maps", "not a list"],
)
def test_a_bad_entry_is_named_with_its_place_in_the_list(value: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        checks.parse("pools", json.dumps(value), tuple[_Entry, ...])
