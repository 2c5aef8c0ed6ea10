"""Where a pod may stand, and what a pod that fits nowhere is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubelet_bench import BLOCK, Object, container, pod, until

from lab.kubernetes import placement
from lab.kubernetes.api.kinds import NODE, POD, PRIORITY_CLASS, REPLICA_SET
from lab.kubernetes.api.store import Store
from lab.kubernetes.controller import owner_reference
from lab.kubernetes.nodes import GPU_RESOURCE, Shape, register
from lab.kubernetes.scheduler import Scheduler, explanation
from lab.topology import SiteAddresses

ADDRESSES = SiteAddresses(name="bench", kind="private", block=BLOCK)
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
TOLERATES_GPU = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    task = asyncio.create_task(Scheduler(store).run())
    yield store
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def node(store: Store, name: str, *, gpus: int = 0, cpu: str = "4", **more: Any) -> Object:
    found = register(store, ADDRESSES, name, Shape(cpu=cpu, memory="16Gi", gpu_count=gpus, **more))
    if gpus:
        found["status"]["allocatable"][GPU_RESOURCE] = str(gpus)
        found = store.update(NODE, found, subresource="status")
    return found


def asking(name: str, *, gpus: int = 0, cpu: str = "100m", **spec: Any) -> Object:
    limits = {"cpu": cpu, **({GPU_RESOURCE: str(gpus)} if gpus else {})}
    return pod(name, container("main", resources={"limits": limits}), **spec)


def node_of(store: Store, name: str) -> str:
    return str(store.get(POD, "default", name)["spec"].get("nodeName") or "")


def refusal(store: Store, name: str) -> str:
    conditions = (store.get(POD, "default", name).get("status") or {}).get("conditions") or []
    return next((each["message"] for each in conditions if each.get("reason") == "Unschedulable"), "")


async def test_gpus_are_counted_and_the_pod_too_many_waits_until_one_is_free(store: Store) -> None:
    node(store, "one", gpus=1, taints=(GPU_TAINT,))
    store.create(POD, asking("first", gpus=1, tolerations=TOLERATES_GPU))
    await until(lambda: node_of(store, "first") == "one")
    store.create(POD, asking("second", gpus=1, tolerations=TOLERATES_GPU))
    message = await until(lambda: refusal(store, "second"))
    assert message.startswith("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes")
    assert store.get(POD, "default", "second")["status"]["phase"] == "Pending"
    store.delete(POD, "default", "first", grace_period_seconds=0)
    await until(lambda: node_of(store, "second") == "one")


async def test_every_node_gives_its_own_reason(store: Store) -> None:
    node(store, "tainted", taints=(GPU_TAINT,))
    node(store, "small", cpu="1")
    cordoned = node(store, "cordoned")
    cordoned["spec"]["unschedulable"] = True
    store.update(NODE, cordoned)
    store.create(POD, asking("p", cpu="2"))
    message = await until(lambda: refusal(store, "p"))
    for part in ("0/3 nodes", "1 node(s) had untolerated taint {nvidia.com/gpu: present}", "1 Insufficient cpu"):
        assert part in message
    assert "1 node(s) were unschedulable" in message


async def test_an_init_container_that_asks_for_more_than_the_others_needs_its_place_too(store: Store) -> None:
    node(store, "small", cpu="1")
    large = container("fetch", resources={"requests": {"cpu": "2"}})
    store.create(POD, asking("p", initContainers=[large]))
    assert "1 Insufficient cpu" in await until(lambda: refusal(store, "p"))
    limited = container("fetch", resources={"limits": {"cpu": "2"}})
    store.create(POD, asking("q", initContainers=[limited]))
    assert "1 Insufficient cpu" in await until(lambda: refusal(store, "q")), "a limit is a request where none is given"
    store.create(POD, asking("r", initContainers=[container("fetch", resources={"requests": {"cpu": "1"}})]))
    await until(lambda: node_of(store, "r") == "small")


async def test_without_nodes_a_pod_waits_for_the_first_one(store: Store) -> None:
    store.create(POD, asking("p"))
    assert await until(lambda: refusal(store, "p")) == "no nodes available to schedule pods"
    node(store, "one")
    await until(lambda: node_of(store, "p") == "one")
    scheduled = [
        each for each in store.get(POD, "default", "p")["status"]["conditions"] if each["type"] == "PodScheduled"
    ]
    assert scheduled[0]["status"] == "True"


async def test_pods_of_one_owner_are_spread_over_the_nodes(store: Store) -> None:
    for name in ("one", "two"):
        node(store, name)
    template = {"metadata": {"labels": {"app": "r"}}, "spec": pod("x")["spec"]}
    selector = {"matchLabels": {"app": "r"}}
    replica_set = {"metadata": {"name": "r"}, "spec": {"replicas": 4, "selector": selector, "template": template}}
    owner = owner_reference(REPLICA_SET, store.create(REPLICA_SET, replica_set))
    for name in ("a", "b", "c", "d"):
        made = asking(name)
        made["metadata"]["ownerReferences"] = [owner]
        store.create(POD, made)
    await until(lambda: all(node_of(store, name) for name in ("a", "b", "c", "d")))
    assert sorted(node_of(store, name) for name in ("a", "b", "c", "d")) == ["one", "one", "two", "two"]


async def test_the_more_important_pod_gets_the_last_place(store: Store) -> None:
    store.create(PRIORITY_CLASS, {"metadata": {"name": "high"}, "value": 1000})
    store.create(POD, asking("low", cpu="3"))
    store.create(POD, asking("high", cpu="3", priorityClassName="high"))
    await until(lambda: refusal(store, "high") and refusal(store, "low"))
    node(store, "one")
    await until(lambda: node_of(store, "high") == "one")
    assert not node_of(store, "low")


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}, True),
        ({"key": "nvidia.com/gpu", "value": "absent"}, False),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_toleration_fits_by_key_value_and_effect(toleration: Object, fits: bool) -> None:
    assert placement.tolerates([toleration], GPU_TAINT) is fits


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "gpu", "operator": "DoesNotExist"}, True),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "size", "operator": "Gt", "values": ["3"]}, True),
        ({"key": "size", "operator": "Lt", "values": ["3"]}, False),
    ],
)
def test_required_node_affinity_reads_labels(expression: Object, fits: bool) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    wanted = {"spec": {"affinity": affinity, "containers": []}}
    assert placement.selected(wanted, {"metadata": {"name": "n", "labels": {"zone": "a", "size": "4"}}}) is fits


def test_an_explanation_is_worded_as_kube_scheduler_words_it() -> None:
    assert explanation({"Insufficient cpu": 2, "Insufficient memory": 1}, 2) == (
        "0/2 nodes are available: 1 Insufficient memory, 2 Insufficient cpu. preemption: 0/2 nodes are available:"
        " 2 Preemption is not helpful for scheduling."
    )
