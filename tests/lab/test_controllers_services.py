"""Services: which pods stand behind them, under which addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubelet_bench import Object, address_pool, container, pod, service, until

from lab.kubernetes.api.kinds import ENDPOINT_SLICE, ENDPOINTS, EVENT, IP_ADDRESS_POOL, POD, SERVICE
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import set_condition
from lab.kubernetes.endpoints import EndpointsController
from lab.kubernetes.services import LoadBalancerController, ready_addresses


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(cluster_ips=iter(["127.79.128.1", "127.79.128.2"]))
    tasks = [asyncio.create_task(kind(store).run()) for kind in (EndpointsController, LoadBalancerController)]
    yield store
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def running(store: Store, name: str, ip: str, *, ready: bool = True, port: int = 8080, app: str = "web") -> None:
    ports = [{"name": "http", "containerPort": port}]
    made = store.create(POD, pod(name, container("main", ports=ports), labels={"app": app}, nodeName="n"))
    made["status"] |= {"podIP": ip, "phase": "Running"}
    set_condition(made["status"], "Ready", ready)
    store.update(POD, made, subresource="status")


def slices(store: Store) -> list[Object]:
    return store.list(ENDPOINT_SLICE, "default", "kubernetes.io/service-name=web")


def ready(store: Store) -> list[tuple[str, int]]:
    return ready_addresses(slices(store), "http")


def conditions(store: Store, ip: str) -> Any:
    return next(
        (each["conditions"] for part in slices(store) for each in part["endpoints"] if each["addresses"] == [ip]), None
    )


async def test_only_ready_pods_the_selector_names_stand_behind_a_service(store: Store) -> None:
    store.create(SERVICE, service("web"))
    running(store, "a", "127.79.64.1")
    running(store, "b", "127.79.64.2", ready=False)
    running(store, "c", "127.79.64.3", app="other")
    await until(lambda: conditions(store, "127.79.64.2") is not None)
    assert ready(store) == [("127.79.64.1", 8080)]
    assert conditions(store, "127.79.64.3") is None
    older = store.get(ENDPOINTS, "default", "web")["subsets"]
    assert [each["ip"] for each in older[0]["addresses"]] == ["127.79.64.1"]
    assert [each["ip"] for each in older[0]["notReadyAddresses"]] == ["127.79.64.2"]


async def test_a_pod_that_is_being_deleted_is_not_ready_from_that_moment(store: Store) -> None:
    store.create(SERVICE, service("web"))
    running(store, "a", "127.79.64.1")
    await until(lambda: ready(store) == [("127.79.64.1", 8080)])
    store.delete(POD, "default", "a")
    await until(lambda: ready(store) == [])
    assert conditions(store, "127.79.64.1") == {"ready": False, "serving": True, "terminating": True}
    store.delete(POD, "default", "a", grace_period_seconds=0)
    await until(lambda: conditions(store, "127.79.64.1") is None)


async def test_a_named_target_port_is_each_pods_own_number(store: Store) -> None:
    store.create(SERVICE, service("web"))
    running(store, "a", "127.79.64.1", port=8080)
    running(store, "b", "127.79.64.2", port=9090)
    await until(lambda: ready(store) == [("127.79.64.1", 8080), ("127.79.64.2", 9090)])


async def test_a_changed_selector_and_a_deleted_service_take_their_endpoints_along(store: Store) -> None:
    store.create(SERVICE, service("web"))
    running(store, "a", "127.79.64.1")
    await until(lambda: ready(store) == [("127.79.64.1", 8080)])
    changed = store.get(SERVICE, "default", "web")
    changed["spec"]["selector"] = {"app": "other"}
    store.update(SERVICE, changed)
    await until(lambda: ready(store) == [])
    store.delete(SERVICE, "default", "web")
    await until(lambda: not slices(store) and not store.list(ENDPOINTS, "default"))


def ingress(store: Store) -> Any:
    return (store.get(SERVICE, "default", "web")["status"].get("loadBalancer") or {}).get("ingress")


async def test_a_load_balancer_gets_the_address_it_asks_for_once_a_pool_holds_it(store: Store) -> None:
    asked = {"metallb.io/loadBalancerIPs": "127.79.0.10"}
    store.create(SERVICE, service("web", type="LoadBalancer", annotations=asked))
    message = await until(
        lambda: [each["message"] for each in store.list(EVENT) if each["reason"] == "AllocationFailed"]
    )
    assert "127.79.0.10 is in no IPAddressPool" in message[0]
    assert not ingress(store)
    store.create(IP_ADDRESS_POOL, address_pool())
    await until(lambda: ingress(store) == [{"ip": "127.79.0.10", "ipMode": "VIP"}])
    plain = store.get(SERVICE, "default", "web")
    plain["spec"]["type"] = "ClusterIP"
    store.update(SERVICE, plain)
    await until(lambda: not ingress(store))
