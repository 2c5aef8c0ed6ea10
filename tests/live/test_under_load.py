"""A site that is busy is not ill, and one that rolls to a new version neither: users ask all the while."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from drills import load, measure
from drills.access import as_client, site_url
from drills.answer import Expectation
from drills.choice import steady
from drills.drill import failed, until, until_held
from drills.expectation import PATH, gather
from drills.probes import DnsNames
from stacks.contract import Deployment, StackName
from stacks.workspace import Workspace
from tests.live.conftest import ROOT, Line, environment
from trials import line as trials_line
from trials.up_kill import override
from trials.users import settings

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

FLOOD_SECONDS = 25.0
"""Longer than the DNS service takes to drop a site."""
FLOOD = """
import asyncio, json, sys, collections
import httpx
url, body, connections, seconds = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
seen = collections.Counter()
async def one(http, end):
    loop = asyncio.get_running_loop()
    while loop.time() < end:
        try:
            answer = await http.post(url, json=body)
            seen[str(answer.status_code)] += 1
            if answer.status_code == 429:
                seen["retry-after"] += "retry-after" in answer.headers
                await asyncio.sleep(0.05)
        except httpx.HTTPError as error:
            seen[type(error).__name__] += 1
async def main():
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=10) as http:
        end = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(one(http, end) for _ in range(connections)))
    print(json.dumps(seen))
asyncio.run(main())
"""


def started(*arguments: str, home: Path | None = None) -> subprocess.Popen[str]:
    """A Python process of its own, so that what it does delays nobody's clock here."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(home) if home else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if home else None,
        text=True,
    )


def deployment_of(line: Line) -> Deployment:
    return Deployment.read("lab", line.outputs())


async def well(deployment: Deployment) -> None:
    """Both sites answer and DNS leads to them: what the test before did is over."""
    missing = failed(await until_held(steady(deployment), 120))
    assert missing == [], str(missing[0])


@asynccontextmanager
async def users(
    deployment: Deployment, expectation: Expectation, *, rate: float, host: str = ""
) -> AsyncIterator[list[load.Sample]]:
    """Users of both client classes from here to the end of the block; every sample in the list afterwards."""
    wanted = settings(deployment, expectation, rate)
    wanted = replace(wanted, host=host or wanted.host)
    stop = asyncio.Event()
    samples: list[load.Sample] = []
    running = asyncio.ensure_future(load.run(wanted, stop, on_sample=samples.append))
    try:
        yield samples
    finally:
        stop.set()
        await running


async def health(deployment: Deployment, site: str) -> dict[str, Any]:
    """What a gateway of the site says of itself."""
    traffic = deployment.traffic
    endpoint = traffic.sites[site]
    async with httpx.AsyncClient(timeout=10) as http:
        answer = await http.get(site_url(traffic, endpoint, traffic.health_path), **as_client(traffic, endpoint))
    return {"code": answer.status_code, **answer.json()}


async def sampled(ask: Callable[[], Any], until: Callable[[], bool], every_seconds: float) -> list[Any]:
    """Answers at a pace until something is over."""
    seen = []
    while not until():
        seen.append(await ask())
        await asyncio.sleep(every_seconds)
    return seen


async def test_a_site_at_three_times_its_limit_sheds_stays_green_and_drags_nobody_down(line: Line) -> None:
    deployment = deployment_of(line)
    traffic, serving = deployment.traffic, deployment.serving["private"]
    await well(deployment)
    connections = 3 * serving.concurrency_limit * serving.gateway_replicas
    url = site_url(traffic, traffic.sites["private"], PATH)
    expectation = await gather(deployment)
    body = expectation.bodies[-1].decode()
    flood = started("-c", FLOOD, url, body, str(connections), str(FLOOD_SECONDS))
    try:
        # Names are host names: this one means the other site alone.
        async with users(deployment, expectation, rate=10, host=traffic.sites["public"].name) as others:
            over = lambda: flood.poll() is not None  # noqa: E731
            states, names = await asyncio.gather(
                sampled(lambda: health(deployment, "private"), over, 0.5),
                sampled(DnsNames(deployment, "private").ask, over, 1.0),
            )
    finally:
        flood.kill()
        printed, _ = flood.communicate(timeout=30)
    seen = json.loads(printed)
    assert seen["200"] > 0, seen
    assert seen["429"] > 0, f"nothing was shed: {seen}"
    assert seen["retry-after"] == seen["429"], "a refusal says when to ask again"
    # The crowd is one process: on a starved machine it may be late with a body of its own, and is told so.
    assert seen.pop("408", 0) <= sum(seen.values()) / 100, seen
    assert set(seen) <= {"200", "429", "retry-after"}, seen
    assert {state["code"] for state in states} == {200}, [s for s in states if s["code"] != 200][:1]
    assert any(state["busy"] for state in states), "it says that it is busy"
    assert all(name.held for name in names), [str(name) for name in names if not name.held][:1]
    assert measure.failures(others) == [], "the other site is not dragged down"


async def test_a_rollout_under_load_fails_nobody_and_never_turns_health_red(line: Line) -> None:
    deployment = deployment_of(line)
    old = deployment.serving["private"].model_digest
    folder = str(line.home / "models")
    trained = line.tandem(
        "model", "train", "--data", "generated", "--out", folder, "--seconds", "6", "--seed", "7", "--json"
    )
    new = json.loads(trained.stdout)
    assert new["digest"] != old
    line.tandem("model", "publish", new["package"], "--env", "lab")
    line.tandem("model", "promote", new["digest"], "--env", "lab", "--site", "private")
    await well(deployment)
    expectation = (await gather(deployment)).accepting("private", new["digest"])
    async with users(deployment, expectation, rate=20) as samples:
        rollout = started("-m", "tandem", "up", "--env", "lab", home=line.home)
        try:
            states = await sampled(lambda: health(deployment, "private"), lambda: rollout.poll() is not None, 0.3)
        finally:
            rollout.kill()
            said, _ = rollout.communicate(timeout=60)
        assert rollout.returncode == 0, said
        assert await until(lambda: any(sample.digest == new["digest"] for sample in samples), 20)
    bad = measure.failures(samples)
    assert bad == [], f"{len(bad)} of {len(samples)}, the first: {bad[0]}"
    assert {state["code"] for state in states} == {200}, [s for s in states if s["code"] != 200][:1]
    answered = {site: {s.digest for s in samples if s.site == site} for site in deployment.traffic.sites}
    assert answered == {"private": {old, new["digest"]}, "public": {old}}
    after = deployment_of(line)
    assert after.serving["private"].model_digest == new["digest"]
    assert after.serving["public"] == deployment.serving["public"], "the other site is untouched"


async def test_a_weight_a_number_of_pods_and_a_bound_of_a_pool_change_in_place_and_fail_nobody(line: Line) -> None:
    deployment = deployment_of(line)
    await well(deployment)
    driven = trials_line.Line(line.home, print)
    pools = Workspace.of("lab").settings(StackName.parse("pool-private.lab"))["tandem:gpu_pools"]
    changes: dict[str, dict[str, Any]] = {
        "traffic": {"sites": {"private": 60, "public": 40}},
        "serving-private": {"gateway_replicas": deployment.serving["private"].gateway_replicas + 1},
        "pool-private": {"gpu_pools": [{**pool, "max": pool["max"] + 1} for pool in pools]},
    }
    for stack, values in changes.items():
        override(driven, stack, values)
    async with users(deployment, await gather(deployment), rate=20) as samples:
        done = await asyncio.to_thread(line.tandem, "up", "--env", "lab", "--json")
    counts = json.loads(done.stdout)
    changed = {name: set(ops) for name, ops in counts.items() if set(ops) != {"same"}}
    # In place: nothing made or lost.
    assert changed == {f"{stack}.lab": {"same", "update"} for stack in changes}
    bad = measure.failures(samples)
    assert bad == [], f"{len(bad)} of {len(samples)}, the first: {bad[0]}"
    after = deployment_of(line)
    assert after.traffic.sites["private"].weight == 60
    assert after.serving["private"].gateway_replicas == deployment.serving["private"].gateway_replicas + 1
