"""A node that falls silent: what the cluster says of it, what leaves it and when, and what it is when it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from kubelet_bench import (
    Bench,
    Object,
    container,
    deployment,
    pod,
    service,
    until,
    web,
)
from node_bench import (
    GRACE_SECONDS,
    UNREACHABLE,
    back,
    lab_of,
    missed,
    nodes_of,
    off,
    on,
    processes,
    ready_of,
    states,
    taints_of,
)

from lab.kubernetes import placement
from lab.kubernetes.api.kinds import (
    DAEMON_SET,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    LEASE,
    MACHINE,
    MACHINE_DEPLOYMENT,
    NODE,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
)
from lab.kubernetes.condition import condition
from lab.kubernetes.node_lifecycle import NODE_GRACE_SECONDS

live = pytest.mark.live


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with lab_of(tmp_path, 2) as bench:
        yield bench


def leaving(seconds: int) -> list[Object]:
    return [{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]


def ready_endpoints(bench: Bench, name: str) -> dict[str, bool]:
    slices = bench.store.list(ENDPOINT_SLICE, "default", f"kubernetes.io/service-name={name}")
    endpoints = [endpoint for each in slices for endpoint in each["endpoints"]]
    return {each["targetRef"]["name"]: each["conditions"]["ready"] for each in endpoints}


def on_node(bench: Bench, app: str, node: str) -> list[Object]:
    return [each for each in bench.pods(app) if each["spec"].get("nodeName") == node]


@live
async def test_every_node_renews_a_lease(bench: Bench) -> None:
    def renewed() -> dict[str, str]:
        leases = bench.store.list(LEASE, "kube-node-lease")
        return {each["metadata"]["name"]: each["spec"]["renewTime"] for each in leases}

    await until(lambda: sorted(renewed()) == sorted(nodes_of(bench)))
    first, (one, two) = renewed(), nodes_of(bench)
    await until(lambda: all(renewed()[name] > first[name] for name in first))
    await off(bench, one)
    stopped = renewed()
    await until(lambda: renewed()[two] > stopped[two])
    assert renewed()[one] == stopped[one], "a machine without power is not heard of"
    bench.change(MACHINE_DEPLOYMENT, "bench", lambda spec: spec.update(replicas=0))
    await until(lambda: renewed() == {}, what="leases go with their nodes")


@live
async def test_a_silent_node_is_unknown_tainted_and_behind_no_service(bench: Bench) -> None:
    bench.store.create(SERVICE, service("web"))
    bench.store.create(DEPLOYMENT, deployment("web", 2, web()))
    await until(lambda: sorted(ready_endpoints(bench, "web").values()) == [True, True], 30)
    node, other = nodes_of(bench)
    there = on_node(bench, "web", node)[0]["metadata"]["name"]
    here = on_node(bench, "web", other)[0]["metadata"]["name"]
    began = time.monotonic()
    await off(bench, node)
    assert ready_of(bench, node) == "True", "nobody has missed it yet"
    assert ready_endpoints(bench, "web") == {there: True, here: True}
    await missed(bench, node)
    assert time.monotonic() - began > 0.7 * GRACE_SECONDS
    said = condition(bench.store.get(NODE, None, node), "Ready") or {}
    assert (said["reason"], said["message"]) == ("NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert {(each["key"], each["effect"], bool(each["timeAdded"])) for each in taints_of(bench, node)} == {
        (UNREACHABLE, "NoSchedule", True),
        (UNREACHABLE, "NoExecute", True),
    }
    await until(lambda: ready_endpoints(bench, "web") == {there: False, here: True}, 10)
    addresses = bench.store.get(ENDPOINTS, "default", "web")["subsets"][0]["addresses"]
    assert [each["targetRef"]["name"] for each in addresses] == [here]
    assert not bench.ready(there)
    assert bench.pod(there)["status"]["phase"] == "Running", "as far as anybody knows"
    assert f"Node {node} status is now: NodeNotReady" in bench.events("NodeNotReady")
    assert "Node is not ready" in bench.events("NodeNotReady")
    machine = bench.store.get(MACHINE, "default", node)
    assert (condition(machine, "Ready") or {})["status"] == "False"
    assert (taints_of(bench, other), ready_of(bench, other)) == ([], "True")
    await on(bench, node)
    await back(bench, node)
    await until(lambda: ready_endpoints(bench, "web") == {there: True, here: True})
    await until(lambda: (condition(bench.store.get(MACHINE, "default", node), "Ready") or {})["status"] == "True")


@live
async def test_pods_leave_a_lost_node_when_they_tolerate_it_no_longer(bench: Bench) -> None:
    bench.store.create(DEPLOYMENT, deployment("app", 2, tolerations=leaving(2)))
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [container()]}}
    spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": template}
    bench.store.create(DAEMON_SET, {"metadata": {"name": "agent", "namespace": "default"}, "spec": spec})
    budget = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "app"}}}
    bench.store.create(POD_DISRUPTION_BUDGET, {"metadata": {"name": "b", "namespace": "default"}, "spec": budget})
    bench.store.create(POD, pod("patient"))
    await until(lambda: bench.settled("app") and bench.ready("patient") and len(bench.pods("agent")) == 2)
    node = str(bench.pod("patient")["spec"]["nodeName"])
    other = next(each for each in nodes_of(bench) if each != node)
    doomed, agent = on_node(bench, "app", node)[0], on_node(bench, "agent", node)[0]
    await until(lambda: bench.ready(agent["metadata"]["name"]))
    await off(bench, node)
    await missed(bench, node)
    since = time.monotonic()
    name = doomed["metadata"]["name"]
    assert not bench.pod(name)["metadata"].get("deletionTimestamp"), "it is tolerated for two seconds"
    await until(lambda: bench.pod(name)["metadata"].get("deletionTimestamp"), 30)
    assert time.monotonic() - since > 1
    assert (condition(bench.pod(name), "DisruptionTarget") or {})["reason"] == "DeletionByTaintManager"
    assert f"Marking for deletion Pod default/{name}" in bench.events("TaintManagerEviction")
    await until(lambda: len(on_node(bench, "app", other)) == 2, what="the replacement is made at once")
    await until(lambda: all(bench.ready(each["metadata"]["name"]) for each in on_node(bench, "app", other)))
    assert states(processes(bench, name)) == {psutil.STATUS_STOPPED}
    assert not bench.pod("patient")["metadata"].get("deletionTimestamp"), "five minutes unless a pod says otherwise"
    assert not bench.pod(agent["metadata"]["name"])["metadata"].get("deletionTimestamp"), "daemon pods stay"
    await on(bench, node)
    await until(lambda: bench.gone(name))
    await back(bench, node)
    await until(lambda: bench.ready("patient") and bench.ready(agent["metadata"]["name"]))
    assert bench.settled("app")
    assert len(bench.pods("agent")) == 2


@live
async def test_a_replacement_that_fits_nowhere_waits_for_the_node(tmp_path: Path) -> None:
    async with lab_of(tmp_path, 2, cpu="1") as bench:
        wide = container(resources={"requests": {"cpu": "600m"}})
        bench.store.create(DEPLOYMENT, deployment("app", 2, wide, tolerations=leaving(0)))
        await until(lambda: bench.settled("app"))
        node = nodes_of(bench)[0]
        await off(bench, node)
        await missed(bench, node)
        waiting = await until(lambda: [each for each in bench.pods("app") if not each["spec"].get("nodeName")])
        message = await until(
            lambda: (condition(bench.pod(waiting[0]["metadata"]["name"]), "PodScheduled") or {}).get("message")
        )
        assert "1 Insufficient cpu" in message
        assert f"1 node(s) had untolerated taint {{{UNREACHABLE}: }}" in message
        await on(bench, node)
        await until(lambda: bench.settled("app"))


@live
async def test_power_that_is_back_in_time_cancels_the_eviction(bench: Bench) -> None:
    bench.store.create(POD, pod("p", tolerations=leaving(5)))
    await until(lambda: bench.ready("p"))
    node = str(bench.pod("p")["spec"]["nodeName"])
    await off(bench, node)
    await missed(bench, node)
    await on(bench, node)
    await back(bench, node)
    await until(lambda: "Cancelling deletion of Pod default/p" in bench.events("TaintManagerEviction"))
    await until(lambda: bench.ready("p"))


@live
async def test_a_taint_by_hand_sends_pods_away_from_a_node_that_is_up(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    short = {"key": "repair", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
    stays = {"key": "repair", "operator": "Exists"}
    for name, tolerations in (("goes", []), ("later", [short]), ("stays", [stays])):
        bench.store.create(POD, pod(name, nodeName=node, tolerations=tolerations))
    await until(lambda: all(bench.ready(name) for name in ("goes", "later", "stays")))
    found = bench.store.get(NODE, None, node)
    found["spec"]["taints"] = [{"key": "repair", "effect": "NoExecute"}]
    bench.store.update(NODE, found)
    await until(lambda: bench.gone("goes"))
    assert not bench.gone("later")
    await until(lambda: bench.gone("later"))
    assert bench.ready("stays")


@live
async def test_a_site_that_was_held_up_itself_misses_nobody(bench: Bench) -> None:
    await until(lambda: len(bench.store.list(LEASE, "kube-node-lease")) == 2)
    time.sleep(2 * GRACE_SECONDS)  # noqa: ASYNC251 -- the whole process is what is held up
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        assert [ready_of(bench, each) for each in nodes_of(bench)] == ["True", "True"]
        await asyncio.sleep(0.02)
    assert not bench.events("NodeNotReady")


@live
async def test_without_being_shortened_the_grace_is_twenty_seconds() -> None:
    assert NODE_GRACE_SECONDS == 20


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 0.0),
        ([{"key": "a", "operator": "Exists"}], None),
        ([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}], 30.0),
        ([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": -1}], 0.0),
        ([{"key": "b", "operator": "Exists"}], 0.0),
        ([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}], 0.0),
        ([{"operator": "Exists"}], None),
        (
            [
                {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
                {"operator": "Exists"},
            ],
            5.0,
        ),
    ],
)
def test_how_long_a_taint_is_tolerated(tolerations: list[Object], seconds: float | None) -> None:
    assert placement.tolerated_seconds(tolerations, {"key": "a", "effect": "NoExecute"}) == seconds
