"""A site is emptied and filled again through objects alone, and never when that would leave users nowhere to go."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from drills import gateways, headroom, site_status
from drills import site as site_module
from drills.gateways import Flow
from drills.probes import NothingShed, shedding
from drills.site import Course, RefusedError, UnfinishedError, drain, restore
from signals import lock, marks, snapshot
from stacks.contract import Deployment
from tests.drills import site_stage
from tests.drills.site_stage import World

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def stage() -> Iterator[World]:
    with site_stage.running() as world:
        yield world


@pytest.fixture
def world(stage: World) -> Iterator[World]:
    stage.stores.empty()
    stage.deaf = False
    for name, site in stage.sites.items():
        site.__init__(name)  # type: ignore[misc]  # a site as it was
    yield stage
    assert not any(site.posts for site in stage.sites.values()), "a drain writes to stores and nowhere else"


def marked(world: World, site: str, *, shadow: bool = False) -> list[str]:
    return [each.store for each in marks.counting(marks.read(world.deployment, site, shadow=shadow))]


async def test_a_site_is_emptied_and_filled_again(world: World) -> None:
    said: list[str] = []
    course = await drain(world.deployment, "private", who="ada", why="new switches", say=said.append)
    assert not world.sites["private"].led
    assert marked(world, "private") == ["public"]
    assert course.stores == ["private", "public"], "the site's own store has a copy, for its gateways"
    assert course.dns_seconds is not None
    assert course.requests_seconds is not None
    assert course.connections_seconds is not None
    assert max(course.dns_seconds, course.requests_seconds, course.connections_seconds) < 6
    assert any("headroom: public would carry" in line for line in said)
    restored = await restore(world.deployment, "private", say=said.append)
    assert marked(world, "private") == []
    assert restored.dns_seconds is not None
    assert (restored.well_seconds or 0) >= world.deployment.serving["private"].hold_down_seconds
    assert world.sites["private"].led
    again = await restore(world.deployment, "private", say=said.append)
    assert again.stores == []
    assert said[-1] == "private is not drained: no store holds a mark"


async def test_the_last_site_that_is_well_is_never_drained(world: World) -> None:
    world.sites["public"].well = False
    for force in (False, True):
        with pytest.raises(RefusedError, match="private is the last site that is well"):
            await drain(world.deployment, "private", who="ada", force=force)
    assert marked(world, "private") == []
    world.sites["public"].well = True
    marks.mark(world.deployment, "public", who="eve", why="")
    with pytest.raises(RefusedError, match="last site that is well and not drained: public is drained itself"):
        await drain(world.deployment, "private", who="ada", force=True)


async def test_another_site_that_dns_does_not_lead_to_is_not_well(world: World) -> None:
    nowhere = replace(world.deployment.traffic.sites["public"], address="127.85.0.99")
    traffic = world.deployment.traffic
    deployment = replace(
        world.deployment,
        traffic=replace(traffic, sites={**traffic.sites, "public": nowhere}, request_timeout_seconds=1),
    )
    with pytest.raises(RefusedError, match="DNS leads to public"):
        await drain(deployment, "private", who="ada")


async def test_a_site_whose_load_the_others_cannot_carry_is_drained_only_by_force(world: World) -> None:
    for site in world.sites.values():
        site.rate, site.latency = 100.0, 0.05
    deployment = _patient(world.deployment)
    with pytest.raises(RefusedError, match=r"public would carry \d+\.\d/s of 70% of 1\d\d/s"):
        await drain(deployment, "private", who="ada")
    assert marked(world, "private") == []
    course = await drain(deployment, "private", who="ada", force=True)
    assert course.connections_seconds is not None


async def test_a_site_that_sheds_has_no_headroom(world: World) -> None:
    world.sites["public"].shedding = True
    with pytest.raises(RefusedError, match="and it sheds already"):
        await drain(world.deployment, "private", who="ada")


async def test_a_site_whose_traffic_cannot_be_measured_is_drained_only_by_force_and_not_called_empty(
    world: World,
) -> None:
    world.sites["private"].reachable = False
    with pytest.raises(RefusedError, match="it cannot be measured: pods of private"):
        await drain(world.deployment, "private", who="ada")
    deployment = _hurried(world.deployment)
    with pytest.raises(UnfinishedError, match=r"its gateways cannot be asked .* the mark stands"):
        await drain(deployment, "private", who="ada", force=True, connections_seconds=0.0)
    assert marked(world, "private") == ["public"]


async def test_a_connection_that_does_not_end_is_waited_for_only_so_long(world: World) -> None:
    world.sites["private"].lingering = 2
    with pytest.raises(UnfinishedError, match=r"private is not empty .* 2 connections"):
        await drain(_hurried(world.deployment), "private", who="ada", connections_seconds=0.0)
    assert marked(world, "private") == ["public"]


async def test_a_mark_nobody_heeds_is_waited_for_only_so_long(world: World) -> None:
    world.deaf = True
    with pytest.raises(UnfinishedError, match=r"DNS leads nobody to private: 127.85.0.11 .* the mark stands"):
        await drain(_hurried(world.deployment), "private", who="ada")
    assert marked(world, "private") == ["public"]


async def test_a_mark_no_store_takes_is_no_drain(world: World) -> None:
    cut = replace(world.deployment, storage=world.stores.outputs("public"))
    with pytest.raises(UnfinishedError, match="no store that counts for private took the mark"):
        await drain(cut, "private", who="ada")
    assert [each.store for each in marks.read(world.deployment, "private") if each.mark] == ["private"]


async def test_a_shadow_drain_leaves_users_where_they_are(world: World) -> None:
    with pytest.raises(UnfinishedError, match="the shadow name leads nobody to private"):
        await drain(_hurried(world.deployment), "private", who="ada", shadow=True)
    assert marked(world, "private") == []
    assert marked(world, "private", shadow=True) == ["public"]
    assert world.sites["private"].led
    nameless = replace(world.deployment, traffic=replace(world.deployment.traffic, shadow_name=""))
    with pytest.raises(RefusedError, match="lab has no shadow name"):
        await drain(nameless, "private", who="ada", shadow=True)


async def test_of_two_drains_at_once_one_gives_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    both, write = threading.Barrier(2), marks.mark

    def together(*given: object, **named: object) -> object:
        both.wait(WAIT_SECONDS)
        written = write(*given, **named)  # type: ignore[arg-type]
        both.wait(WAIT_SECONDS)
        return written

    monkeypatch.setattr(marks, "mark", together)
    one, other = await asyncio.gather(
        drain(world.deployment, "private", who="ada"),
        drain(world.deployment, "public", who="eve"),
        return_exceptions=True,
    )
    assert isinstance(other, RefusedError), other
    assert "private was drained at the same time" in str(other)
    assert isinstance(one, Course), one
    assert marked(world, "private") == ["public"]
    assert not any(each.mark for each in marks.read(world.deployment, "public")), "its copy is taken back as well"


async def test_a_drain_that_came_later_gives_way_to_one_that_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one looked before this one wrote, so it knows nothing of it and goes on."""
    monkeypatch.setattr(site_module, "YIELD_SECONDS", 0.5)
    write = marks.mark

    def overtaken(*given: object, **named: object) -> object:
        write(world.deployment, "public", who="eve", why="")
        return write(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(marks, "mark", overtaken)
    with pytest.raises(RefusedError, match="public was drained at the same time, and private would be the last"):
        await drain(world.deployment, "private", who="ada")
    assert not any(each.mark for each in marks.read(world.deployment, "private"))
    assert marked(world, "public") == ["private"]


async def test_a_site_that_is_not_well_stays_drained(world: World) -> None:
    marks.mark(world.deployment, "private", who="ada", why="")
    world.sites["private"].well = False
    with pytest.raises(UnfinishedError, match=r"private was not well for 1 s .* it stays drained"):
        await restore(world.deployment, "private", patience_seconds=0.5)
    assert marked(world, "private") == ["public"]


async def test_the_hold_down_begins_anew_after_every_break(world: World) -> None:
    marks.mark(world.deployment, "private", who="ada", why="")
    flapping = threading.Event()

    def flap() -> None:
        # Ill for longer than a look and the pause after it take, so that no break is missed between two looks.
        while not flapping.wait(0.3 if world.sites["private"].well else 1.5):
            world.sites["private"].well = not world.sites["private"].well

    thread = threading.Thread(target=flap)
    serving = {**world.deployment.serving, "private": replace(world.deployment.serving["private"], hold_down_seconds=2)}
    thread.start()
    try:
        with pytest.raises(UnfinishedError, match="without a break"):
            await restore(replace(world.deployment, serving=serving), "private", patience_seconds=2.0)
    finally:
        flapping.set()
        thread.join(30)
    assert marked(world, "private") == ["public"]


async def test_a_store_that_may_hold_a_mark_leaves_a_restore_unfinished(world: World) -> None:
    marks.mark(world.deployment, "private", who="ada", why="")
    own_away = replace(world.deployment, storage=world.stores.outputs("private"))
    with pytest.raises(UnfinishedError, match=r"not cleared: private: .* drains private again when that store returns"):
        await restore(own_away, "private")
    assert marked(world, "private") == [], "what could be cleared is"
    course = await restore(world.deployment, "private")
    assert course.unreachable == []


async def test_of_a_site_that_was_taken_away_the_mark_is_removed_and_nothing_is_waited_for(world: World) -> None:
    marks.mark(world.deployment, "private", who="ada", why="taken away")
    left = {site: each for site, each in world.deployment.traffic.sites.items() if site != "private"}
    without = replace(world.deployment, traffic=replace(world.deployment.traffic, sites=left))
    own_away = replace(without, storage=world.stores.outputs("private"))
    with pytest.raises(UnfinishedError, match=r"private is no site of lab any more; not cleared: private: "):
        await restore(own_away, "private")
    said: list[str] = []
    course = await restore(without, "private", say=said.append)
    assert course.stores == ["private", "public"]
    assert course.well_seconds is None, "nobody is there to be well"
    assert said == ["private is no site of lab any more; no mark of it in private, public"]
    assert not any(each.mark for each in marks.read(world.deployment, "private"))


async def test_the_state_of_a_site_is_told_whole(world: World) -> None:
    marks.mark(world.deployment, "private", who="ada", why="new switches")
    told = await site_status.standing(world.deployment, "private")
    assert told["drained"] is True
    assert told["shadow_drained"] is False
    assert told["marks"][1]["mark"]["why"] == "new switches"
    assert told["traffic"]["pods"] == 1
    assert json.dumps(told)
    world.sites["private"].reachable = False
    assert "error" in (await site_status.standing(world.deployment, "private"))["traffic"]


def _patient(deployment: Deployment) -> Deployment:
    """The same with time for an answer on a machine that has much to do."""
    return replace(deployment, traffic=replace(deployment.traffic, request_timeout_seconds=2))


def _hurried(deployment: Deployment) -> Deployment:
    """The same with bounds so short that waiting them out costs a test little."""
    traffic = replace(deployment.traffic, health_threshold=0, ttl_seconds=-4)
    return replace(deployment, traffic=traffic)


def a_flow(rate: float, latency: float | None = 0.1, *, shed: float = 0.0, pods: int = 1) -> Flow:
    return Flow(rate, shed, latency, 0, pods)


def test_the_load_is_divided_by_weight_and_each_has_to_carry_its_part(world: World) -> None:
    flows = {"private": a_flow(40.0), "public": a_flow(10.0)}
    (share,) = headroom.shares(world.deployment, ["public"], flows)
    assert (share.requests_per_second, share.capacity_per_second) == (50.0, 80.0)
    assert share.enough
    (share,) = headroom.shares(world.deployment, ["public"], {**flows, "public": a_flow(20.0)})
    assert not share.enough, "60/s is more than 70% of 80/s"
    (share,) = headroom.shares(world.deployment, ["public"], {**flows, "public": a_flow(10.0, pods=0)})
    assert not share.enough, "no pod, no capacity"


def test_a_site_nobody_asks_is_judged_by_the_others_latency(world: World) -> None:
    (share,) = headroom.shares(world.deployment, ["public"], {"private": a_flow(60.0), "public": a_flow(0.0, None)})
    assert share.capacity_per_second == 80.0
    assert not share.enough
    (idle,) = headroom.shares(world.deployment, ["public"], {"private": a_flow(0, None), "public": a_flow(0, None)})
    assert idle.enough, "nothing to carry"


def test_a_drills_own_load_comes_on_top(world: World) -> None:
    flows = {"private": a_flow(40.0), "public": a_flow(10.0)}
    (share,) = headroom.shares(world.deployment, ["public"], flows, 7.0)
    assert share.requests_per_second == 57.0
    assert not share.enough, "57/s is more than 70% of 80/s"
    idle = {"private": a_flow(0, None), "public": a_flow(0, None)}
    (share,) = headroom.shares(world.deployment, ["public"], idle, 7.0)
    promised = world.deployment.traffic.objectives.p99_ms / 1000
    assert share.capacity_per_second == 8 / (headroom.USABLE_SHARE * promised), (
        "nobody was ever answered: what is promised has to do"
    )


async def test_a_survivor_that_sheds_is_told_from_one_that_cannot_be_asked(world: World) -> None:
    probe = NothingShed(world.deployment, "public")
    world.sites["public"].shedding = True
    assert (await probe.ask()).held, "the first look has nothing to compare with"
    shed = await probe.ask()
    assert not shed.held
    assert "requests/s shed" in shed.detail
    world.sites["public"].reachable = False
    silent = await probe.ask()
    assert silent.held
    assert "no news" in silent.detail
    world.sites["public"].reachable = True
    assert not (await probe.ask()).held
    world.sites["public"].shedding = False
    await probe.ask()
    assert (await probe.ask()).held


async def test_gateways_that_take_their_time_are_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    answered = gateways.read

    def late(*given: Any) -> gateways.Reading:
        assert go.wait(WAIT_SECONDS)
        return answered(*given)

    monkeypatch.setattr(gateways, "read", late)
    monkeypatch.setattr(shedding, "ANSWER_SECONDS", 0.05)
    probe = NothingShed(world.deployment, "public")
    for _ in range(2):
        assert "not said yet" in (await probe.ask()).detail
    go.set()
    monkeypatch.setattr(shedding, "ANSWER_SECONDS", WAIT_SECONDS)
    assert (await probe.ask()).detail == "first look"


def test_sites_of_weight_0_share_alike(world: World) -> None:
    deployment = world.with_sites(weight=0)
    flows = {"private": a_flow(10.0), "public": a_flow(0.0)}
    assert [each.requests_per_second for each in headroom.shares(deployment, ["public", "private"], flows)] == [5, 5]


def test_a_gateway_that_began_anew_counts_from_zero() -> None:
    def reading(at: float, **counted: float) -> gateways.Reading:
        zero = gateways.counters("")
        return gateways.Reading(at, {"gateway-0": {**zero, **counted}})

    before = reading(0.0, requests=1000.0, seconds=10.0, answers=1000.0)
    carried = gateways.flow(before, reading(2.0, requests=10.0, seconds=1.0, answers=10.0))
    assert (carried.requests_per_second, carried.latency_seconds) == (5.0, 0.1)
    still = gateways.flow(before, before)
    assert (still.requests_per_second, still.latency_seconds) == (0.0, 0.01), "then what it ever was"


def saved(world: World, home: Path) -> Path:
    """A signed snapshot of this deployment, as `up` leaves it."""
    deployment = world.deployment
    outputs = {
        f"{layer}-{site}.lab": asdict(each)
        for layer in ("storage", "pool", "platform", "serving")
        for site, each in getattr(deployment, layer).items()
    }
    outputs["traffic.lab"] = asdict(deployment.traffic)
    outputs["traffic.lab"]["sites"].pop("third", None)
    taken = snapshot.Snapshot.of("lab", outputs, "abc")
    snapshot.write(taken, home, [])
    return snapshot.local(home, "lab")


def started(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import drills.site_cli as cli; cli.app()", *arguments], cwd=ROOT, text=True,
        env={**os.environ, "TANDEM_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def command(home: Path, *arguments: str) -> tuple[int, str, str]:
    with started(home, *arguments) as process:
        try:
            out, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, out, errors


def test_the_command_goes_by_a_signed_snapshot_and_says_who_has_the_lock(world: World, tmp_path: Path) -> None:
    path = str(saved(world, tmp_path))
    with lock.hold("lab", tmp_path / "elsewhere", world.stores.stores(), "up that is stuck"):
        code, out, errors = command(tmp_path, "drain", "private", "--outputs", path, "--yes", "--json")
    assert code == 0, errors
    assert "the environment is locked by" in errors
    assert "up that is stuck" in errors
    assert json.loads(out)["stores"] == ["private", "public"]
    code, out, errors = command(tmp_path, "status", "--outputs", path, "--json")
    assert code == 0, errors
    assert [each["drained"] for each in json.loads(out)["sites"]] == [True, False]
    code, _, errors = command(tmp_path, "drain", "public", "--outputs", path, "--yes", "--force")
    assert code == 2
    assert "private is drained itself" in errors
    code, _, errors = command(tmp_path, "restore", "private", "--outputs", path, "--yes")
    assert code == 0, errors
    assert marked(world, "private") == []


def test_a_snapshot_that_was_changed_and_a_question_nobody_answers_stop_the_command(
    world: World, tmp_path: Path
) -> None:
    path = saved(world, tmp_path)
    code, _, errors = command(tmp_path, "drain", "private", "--outputs", str(path))
    assert code == 2
    assert "take --yes" in errors
    path.write_bytes(path.read_bytes().replace(b'"ttl_seconds":1', b'"ttl_seconds":2'))
    code, _, errors = command(tmp_path, "drain", "private", "--outputs", str(path), "--yes")
    assert code == 1
    assert "it was changed after it was signed" in errors
    assert marked(world, "private") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drain_that_is_stopped_says_that_the_mark_stands(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    world.sites["private"].lingering = 1
    path = str(saved(world, tmp_path))
    with started(tmp_path, "drain", "private", "--outputs", path, "--yes") as process:
        try:
            end = time.monotonic() + WAIT_SECONDS
            while not marked(world, "private"):
                assert time.monotonic() < end
                time.sleep(0.1)
            process.send_signal(number)
            _, errors = process.communicate(timeout=WAIT_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "stopped; private is drained" in errors
    assert "tandem site restore private" in errors


async def test_a_drain_that_is_cancelled_while_it_writes_has_written(world: World) -> None:
    task = asyncio.create_task(drain(world.deployment, "private", who="ada", force=True))
    end = time.monotonic() + WAIT_SECONDS
    while not await asyncio.to_thread(marked, world, "private"):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(each.mark for each in marks.read(world.deployment, "private"))
