"""Deployments of real pods: rolled, recreated, rolled back, scaled to zero, stuck and told so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from kubelet_bench import Bench, Object, bench_site, container, deployment, eventually, refuses, service, until, web

from lab.kubernetes.api.kinds import DEPLOYMENT, POD, REPLICA_SET, RESOURCE_QUOTA, SERVICE
from lab.kubernetes.condition import condition, holds

pytestmark = pytest.mark.live


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_site(tmp_path, 2) as bench:
        yield bench


def set_value(value: str) -> Object:
    return {"env": [{"name": "VALUE", "value": value}]}


async def rolled(bench: Bench, value: str) -> None:
    bench.change(
        DEPLOYMENT,
        "d",
        lambda spec: spec["template"]["spec"]["containers"][0]["env"].append({"name": "V", "value": value}),
    )
    await until(lambda: bench.settled("d"), 60, "the rollout")


async def reached(bench: Bench) -> str:
    """The address of the Service of Deployment d, once it leads somewhere: a moment after the pods are ready."""
    address: str = bench.store.get(SERVICE, "default", "d")["spec"]["clusterIP"]

    async def leads() -> bool:
        return not await refuses(address, 80)

    await eventually(leads, 30, f"the Service at {address} leads to a pod")
    return address


async def test_a_rolling_update_answers_all_through(bench: Bench) -> None:
    rule = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    slow_end = {"preStop": {"sleep": {"seconds": 3}}}  # longer than a busy machine takes to send nobody there
    bench.store.create(SERVICE, service("d"))
    bench.store.create(DEPLOYMENT, deployment("d", 2, web(lifecycle=slow_end), strategy=rule))
    await until(lambda: bench.settled("d"), 30)
    address = await reached(bench)
    rolling_update, answers, fewest = asyncio.create_task(rolled(bench, "2")), set(), 2
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        while not rolling_update.done():
            answer = await client.get(f"http://{address}/", headers={"Connection": "close"})
            answers.add(answer.text)
            fewest = min(fewest, bench.store.get(DEPLOYMENT, "default", "d")["status"]["availableReplicas"])
            await asyncio.sleep(0.01)
    await rolling_update
    assert fewest == 2
    assert len(answers) == 4, "both old and both new pods answered"
    sets = bench.store.list(REPLICA_SET, "default")
    assert sorted(each["spec"]["replicas"] for each in sets) == [0, 2]
    revisions = {each["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for each in sets}
    assert revisions == {"1", "2"}


async def test_recreate_starts_nothing_new_before_the_last_old_pod_is_gone(bench: Bench) -> None:
    late = container("main", "sh", "-c", "trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.1; done", env=[])
    bench.store.create(DEPLOYMENT, deployment("d", 2, late, strategy={"type": "Recreate"}))
    await until(lambda: bench.settled("d"), 30)
    old = {each["metadata"]["uid"] for each in bench.pods("d")}
    rollout, mixed = asyncio.create_task(rolled(bench, "2")), False
    while not rollout.done():
        present = {each["metadata"]["uid"] for each in bench.pods("d")}
        mixed = mixed or bool(present & old and present - old)
        await asyncio.sleep(0.01)
    await rollout
    assert not mixed


async def test_a_return_to_an_earlier_template_takes_its_replica_set_and_a_new_revision(bench: Bench) -> None:
    bench.store.create(DEPLOYMENT, deployment("d", 1, container(env=[])))
    await until(lambda: bench.settled("d"), 30)
    first = bench.store.list(REPLICA_SET, "default")[0]["metadata"]["name"]
    await rolled(bench, "2")
    bench.change(DEPLOYMENT, "d", lambda spec: spec["template"]["spec"]["containers"][0].update(env=[]))
    await until(lambda: bench.settled("d"), 30)
    found = bench.store.get(REPLICA_SET, "default", first)
    assert found["spec"]["replicas"] == 1
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert len(bench.store.list(REPLICA_SET, "default")) == 2


async def test_scaled_to_zero_the_service_refuses_at_once_while_the_pods_still_end(bench: Bench) -> None:
    bench.store.create(SERVICE, service("d"))
    bench.store.create(DEPLOYMENT, deployment("d", 2, web(lifecycle={"preStop": {"sleep": {"seconds": 4}}})))
    await until(lambda: bench.settled("d"), 30)
    address = await reached(bench)
    bench.change(DEPLOYMENT, "d", lambda spec: spec.update(replicas=0))
    await eventually(lambda: refuses(address, 80), 3, "refused while the pods still end")
    assert len(bench.pods("d")) == 2, "they are in their preStop sleep"
    await until(lambda: bench.settled("d"))


async def test_a_rollout_that_cannot_progress_says_so_in_its_conditions(bench: Bench) -> None:
    bad = deployment("d", 1, container("main", image="docker.io/library/nginx:1"))
    bad["spec"]["progressDeadlineSeconds"] = 1
    bench.store.create(DEPLOYMENT, bad)

    def progressing() -> Object:
        return condition(bench.store.get(DEPLOYMENT, "default", "d"), "Progressing") or {}

    await until(lambda: progressing().get("reason") == "ProgressDeadlineExceeded")
    assert progressing()["status"] == "False"
    assert not holds(bench.store.get(DEPLOYMENT, "default", "d"), "Available")
    bench.change(DEPLOYMENT, "d", lambda spec: spec["template"]["spec"].update(containers=[container()]))
    await until(lambda: progressing().get("reason") == "NewReplicaSetAvailable")


async def test_min_ready_seconds_delays_availability(bench: Bench) -> None:
    slow = deployment("d", 1)
    slow["spec"]["minReadySeconds"] = 2
    bench.store.create(DEPLOYMENT, slow)

    def status() -> Object:
        found: Object = bench.store.get(DEPLOYMENT, "default", "d").get("status") or {}
        return found

    await until(lambda: status().get("readyReplicas") == 1)
    assert not status().get("availableReplicas")
    await until(lambda: status().get("availableReplicas") == 1)


async def test_a_quota_that_forbids_a_pod_is_told_by_the_deployment(bench: Bench) -> None:
    quota = {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "1"}}}
    bench.store.create(RESOURCE_QUOTA, quota)
    bench.store.create(DEPLOYMENT, deployment("d", 2))
    failure = await until(lambda: condition(bench.store.get(DEPLOYMENT, "default", "d"), "ReplicaFailure"))
    assert "exceeded quota" in failure["message"]
    assert len(bench.pods("d")) == 1


async def test_a_deleted_deployment_takes_replica_sets_and_pods_with_it(bench: Bench) -> None:
    bench.store.create(DEPLOYMENT, deployment("d", 2))
    await until(lambda: bench.settled("d"), 30)
    bench.store.delete(DEPLOYMENT, "default", "d")
    await until(lambda: not bench.store.list(POD, "default") and not bench.store.list(REPLICA_SET, "default"))


async def test_a_paused_deployment_keeps_its_template_and_follows_its_count(bench: Bench) -> None:
    bench.store.create(DEPLOYMENT, deployment("d", 1, container(env=[])))
    await until(lambda: bench.settled("d"), 30)
    bench.change(DEPLOYMENT, "d", lambda spec: spec.update(paused=True, replicas=2))
    bench.change(DEPLOYMENT, "d", lambda spec: spec["template"]["spec"]["containers"][0].update(set_value("2")))
    await until(lambda: len(bench.pods("d")) == 2)
    assert len(bench.store.list(REPLICA_SET, "default")) == 1
    bench.change(DEPLOYMENT, "d", lambda spec: spec.update(paused=False))
    await until(lambda: bench.settled("d") and len(bench.store.list(REPLICA_SET, "default")) == 2, 30)
