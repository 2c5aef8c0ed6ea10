"""What sets client classes apart: when they connect, when they ask DNS, and what they ask again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from drills.clients import CLASSES, Exchange, Target
from drills.drill import until
from drills.generator import generate
from drills.load import Outcome
from drills.resolver import Resolver
from drills.sample import Sample
from tests.drills.answering import FIRST, NAME, SECOND, Site, Zone, outcomes, serving, settings, ways

pytestmark = pytest.mark.live

KEEPING: dict[str, Any] = {"classes": ("dns-keepalive",)}


@pytest.mark.parametrize(("name", "connections"), [("dns", 50), ("dns-keepalive", 25)])
async def test_a_class_is_told_by_its_connections(
    resolver: str, port: int, site: Site, zone: Zone, name: str, connections: int
) -> None:
    site.keeps, zone.ttl = True, 60
    result = await generate(settings(resolver, port, classes=(name,)), 1.0)
    assert outcomes(result) == {"ok": 50}
    assert site.connections == connections, "25 users"
    assert ways(result) == ({"new": 50} if name == "dns" else {"new": 25, "reused": 25})


async def test_a_kept_connection_outlives_the_time_to_live_and_a_changed_record(
    resolver: str, port: int, site: Site, zone: Zone
) -> None:
    site.keeps = True
    stop, seen = asyncio.Event(), list[Sample]()
    load = asyncio.create_task(generate(settings(resolver, port, **KEEPING), stop, on_sample=seen.append))
    assert await until(lambda: {s.user for s in seen} == set(range(25)), 30)
    zone.addresses, changed = [SECOND], time.monotonic()
    assert await until(lambda: seen[-1].started > changed + 1.2, 30), "longer than the time to live"
    stop.set()
    result = await load
    assert set(outcomes(result)) == {"ok"}
    assert 25 <= zone.questions <= site.connections, "no more than once for each connection"
    assert {sample.address for sample in result.samples} == {FIRST}


async def test_an_answer_that_closes_makes_users_resolve_anew_and_fails_nobody(
    resolver: str, port: int, site: Site, zone: Zone
) -> None:
    site.keeps, zone.ttl = True, 0
    other = Site("public", keeps=True)
    async with serving(other, SECOND, port):
        stop, seen = asyncio.Event(), list[Sample]()
        load = asyncio.create_task(generate(settings(resolver, port, **KEEPING), stop, on_sample=seen.append))
        assert await until(lambda: {s.user for s in seen} == set(range(25)), 30)
        zone.addresses, site.farewell = [SECOND], True
        assert await until(lambda: {s.user for s in seen if s.site == "public"} == set(range(25)), 30)
        stop.set()
        result = await load
    assert set(outcomes(result)) == {"ok"}


async def test_a_kept_connection_that_is_closed_unanswered_is_asked_once_more_on_a_new_one(
    resolver: str, port: int, site: Site
) -> None:
    site.keeps, site.unanswered = True, 3
    result = await generate(settings(resolver, port, **KEEPING), 1.0)
    assert outcomes(result) == {"ok": 50}
    assert ways(result)["retried"] == 3
    assert site.requests == 53


async def test_a_retry_that_finds_nobody_is_a_failure(resolver: str, site: Site) -> None:
    site.keeps = True
    server = await asyncio.start_server(site.serve, FIRST, 0)
    load = asyncio.create_task(
        generate(settings(resolver, server.sockets[0].getsockname()[1], users=1, **KEEPING), 0.6)
    )
    assert await until(lambda: site.requests > 2, 30)
    server.close()
    site.unanswered = 1
    result = await load
    ordered = sorted(result.samples, key=lambda sample: sample.intended)
    failed = [(s.outcome, s.way) for s in ordered if s.outcome is not Outcome.OK]
    assert failed[0] == (Outcome.REFUSED, "retried")
    assert set(failed[1:]) == {(Outcome.REFUSED, "new")}


async def test_a_connection_closed_while_nobody_asks_is_replaced_without_a_retry(
    resolver: str, port: int, site: Site
) -> None:
    site.keeps = True
    load = asyncio.create_task(generate(settings(resolver, port, users=1, rate_per_second=2.0, **KEEPING), 2.0))
    assert await until(lambda: site.requests == 2, 30)
    await asyncio.sleep(0.1)  # until the answer has been read
    for writer in list(site.writers):
        writer.close()
    result = await load
    assert outcomes(result) == {"ok": 4}
    assert ways(result) == {"new": 2, "reused": 2}


async def test_an_answer_that_breaks_off_is_a_failure_and_not_asked_again(resolver: str, port: int, site: Site) -> None:
    site.keeps = True
    load = asyncio.create_task(generate(settings(resolver, port, users=1, **KEEPING), 0.6))
    assert await until(lambda: site.requests > 2, 30)
    site.cut = True
    result = await load
    assert set(outcomes(result)) == {"ok", "reset"}
    assert site.requests == len(result.samples), "a byte of the answer had come"
    assert "retried" not in ways(result)


async def test_a_timeout_is_a_failure_and_drops_the_connection(resolver: str, port: int, site: Site) -> None:
    site.keeps = True
    asked = settings(resolver, port, users=1, rate_per_second=0.5, request_timeout_seconds=0.7, **KEEPING)
    load = asyncio.create_task(generate(asked, 5.5))
    assert await until(lambda: site.requests == 1, 30)
    await asyncio.sleep(0.1)  # until the answer has been read
    site.delay_seconds = 5
    assert await until(lambda: site.requests == 2, 30)
    site.delay_seconds = 0
    result = await load
    ordered = sorted(result.samples, key=lambda sample: sample.intended)
    assert [(s.outcome.value, s.way) for s in ordered] == [("ok", "new"), ("timeout", "reused"), ("ok", "new")]
    assert site.requests == 3, "a timeout is never asked again"


async def test_requests_that_overlap_do_not_wait_for_each_other(resolver: str, port: int, site: Site) -> None:
    site.keeps, site.delay_seconds = True, 0.3
    result = await generate(settings(resolver, port, users=1, rate_per_second=10.0, **KEEPING), 1.0)
    assert outcomes(result) == {"ok": 10}
    assert max(s.finished - s.intended for s in result.samples) < 1.5
    assert 3 <= site.connections <= 10, "as many as are in flight at once, and one of them is kept"


@pytest.mark.parametrize("after_seconds", [0.0, 0.03])
async def test_bytes_nobody_asked_for_never_pass_for_an_answer(
    resolver: str, port: int, site: Site, after_seconds: float
) -> None:
    site.stray_after_seconds = after_seconds
    site.keeps, site.stray = True, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    result = await generate(settings(resolver, port, users=1, rate_per_second=2.0, **KEEPING), 2.0)
    assert outcomes(result) == {"ok": 4}
    assert ways(result) == {"new": 4}


@pytest.mark.parametrize("name", sorted(CLASSES))
async def test_users_are_bound_to_their_local_addresses(resolver: str, port: int, site: Site, name: str) -> None:
    site.keeps = True
    bound = settings(resolver, port, users=4, classes=(name,), source_addresses=("127.84.7.1", ""))
    result = await generate(bound, 0.4)
    assert set(outcomes(result)) == {"ok"}
    assert {(s.user, s.source) for s in result.samples} == {(0, "127.84.7.1"), (1, ""), (2, "127.84.7.1"), (3, "")}
    assert site.peers["127.84.7.1"] >= 2
    assert set(site.peers) == {"127.84.7.1", "127.0.0.1"} or len(site.peers) == 2


def test_each_class_has_users_at_each_address() -> None:
    mixed = settings(
        "127.84.8.53:53", 80, users=8, classes=("dns", "dns-keepalive"), source_addresses=("127.84.7.1", "")
    )
    pairs = Counter((mixed.class_of(user), mixed.source_of(user)) for user in range(8))
    assert set(pairs.values()) == {2}
    assert len(pairs) == 4


@pytest.mark.parametrize("name", sorted(CLASSES))
async def test_a_class_closes_what_it_keeps(resolver: str, port: int, site: Site, name: str) -> None:
    site.keeps = True
    client = CLASSES[name](Target.of("http", NAME, port, "/", Resolver(resolver)))
    exchange = Exchange()
    await client.send(b"{}", exchange)
    assert (exchange.status, bytes(exchange.body)) == (200, b"{}")
    client.close()
    assert await until(lambda: not site.writers, 30, pause_seconds=0.005)
