"""What a declared fault says of itself: whom it hits, whether it is in force, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubelet_bench import Object, container, pod, until

from lab.kubernetes import faults
from lab.kubernetes.api.kinds import EVENT, HTTP_CHAOS, NETWORK_CHAOS, POD
from lab.kubernetes.api.store import Store
from lab.kubernetes.chaos import HttpChaosController, NetworkChaosController
from lab.kubernetes.condition import condition, holds


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    tasks = [asyncio.create_task(kind(store).run()) for kind in (NetworkChaosController, HttpChaosController)]
    yield store
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def fault(**more: Any) -> Object:
    selector = {"namespaces": ["default"], "labelSelectors": {"app": "web"}}
    return {
        "metadata": {"name": "f", "namespace": "default"},
        "spec": {"mode": "all", "selector": selector, "action": "partition", **more},
    }


def states(store: Store) -> dict[str, str]:
    status = store.get(NETWORK_CHAOS, "default", "f").get("status") or {}
    return {each["type"]: each["status"] for each in status.get("conditions") or []}


def says(store: Store, **wanted: str) -> bool:
    return states(store).items() >= wanted.items()


def phases(store: Store) -> list[tuple[str, str]]:
    experiment = store.get(NETWORK_CHAOS, "default", "f")["status"]["experiment"]
    return [(each["id"], each["phase"]) for each in experiment["containerRecords"]]


async def test_a_fault_is_injected_and_recovers_after_its_duration(store: Store) -> None:
    store.create(POD, pod("a", container(), labels={"app": "web"}))
    store.create(POD, pod("b", container(), labels={"app": "other"}))
    store.create(NETWORK_CHAOS, fault(duration="3s"))
    await until(lambda: says(store, Selected="True", AllInjected="True", AllRecovered="False", Paused="False"), 3)
    assert phases(store) == [("default/a", "Injected")]
    await until(lambda: says(store, AllInjected="False", AllRecovered="True"), 30)
    assert phases(store) == [("default/a", "Not Injected")]
    assert store.get(NETWORK_CHAOS, "default", "f")["status"]["experiment"]["desiredPhase"] == "Stop"


async def test_a_fault_that_hits_no_pod_is_not_injected_until_there_is_one(store: Store) -> None:
    store.create(NETWORK_CHAOS, fault())
    await until(lambda: says(store, Selected="False", AllInjected="False"))
    store.create(POD, pod("a", container(), labels={"app": "web"}))
    await until(lambda: says(store, Selected="True", AllInjected="True"))


async def test_a_paused_fault_is_lifted_and_comes_back(store: Store) -> None:
    store.create(POD, pod("a", container(), labels={"app": "web"}))
    store.create(NETWORK_CHAOS, fault())
    await until(lambda: says(store, AllInjected="True"))
    for mark, wanted in (("true", "False"), ("false", "True")):
        found = store.get(NETWORK_CHAOS, "default", "f")
        found["metadata"]["annotations"] = {faults.PAUSED: mark}
        store.update(NETWORK_CHAOS, found)
        paused = mark.capitalize()
        await until(lambda wanted=wanted, paused=paused: says(store, AllInjected=wanted, Paused=paused))


async def test_a_fault_that_is_not_acted_on_says_why(store: Store) -> None:
    store.create(POD, pod("a", container(), labels={"app": "web"}))
    none = {"rate": "0mbps", "limit": 1000, "buffer": 1000}
    store.create(NETWORK_CHAOS, fault(action="bandwidth", bandwidth=none))
    await until(lambda: says(store, AllInjected="False", AllRecovered="True"))
    found = condition(store.get(NETWORK_CHAOS, "default", "f"), "AllInjected")
    assert found
    assert "'0mbps' is not a rate" in found["message"]
    assert [each["reason"] for each in store.list(EVENT)] == ["NotActedOn"]


async def test_an_abort_is_injected_too(store: Store) -> None:
    store.create(POD, pod("a", container(), labels={"app": "web"}))
    spec = {key: each for key, each in fault()["spec"].items() if key != "action"}
    spec |= {"target": "Request", "port": 80, "abort": True}
    store.create(HTTP_CHAOS, {**fault(), "spec": spec})
    await until(lambda: holds(store.get(HTTP_CHAOS, "default", "f"), "AllInjected"))
