"""Links with real sockets: what users and pods see of a cut, a delay, a limit, a reset."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from kubelet_bench import eventually, refuses
from network_bench import (
    BLOCK,
    CALLER,
    CUT_USERS,
    DUAL_STACK,
    EDGE,
    USERS,
    Cluster,
    caller,
    cluster,
    connecting,
    conversation,
    echo_server,
    listening,
    times_out,
)

from lab.kubernetes.api.kinds import HTTP_CHAOS, NETWORK_CHAOS

POD = (f"{BLOCK}.64.1", 8080)
EVERYBODY = {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
ALL_BUT_SOME = {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{BLOCK}.200.16/29"]}}]}
FROM_FRIENDS = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}
DELAY = {"action": "delay", "delay": {"latency": "150ms"}}
LATE = 0.148
"""Seconds: a timer of the event loop may fire its clock's resolution early."""


@pytest.fixture
async def site() -> AsyncIterator[Cluster]:
    """One gateway behind the edge that says back what it hears."""
    async with echo_server(POD), cluster() as made:
        made.pod("g", POD[0])
        made.service("gateway", at_edge=True)
        await eventually(lambda: answers(EDGE), 30, "the edge serves")
        yield made
    assert listening() == [], "nothing is left listening"


async def answers(to: tuple[str, int], source: str = USERS) -> bool:
    if await connecting(to, source) != "open":
        return False
    async with conversation(to, source) as talk:
        talk.say(b"x")
        return not await talk.silent(2)


async def cut(source: str = USERS) -> None:
    """Wait until a cut acts: the promise is one second."""
    await eventually(lambda: times_out(EDGE, source, 0.3), 3, "no handshake any more")


async def test_where_nobody_may_come_in_connecting_times_out_and_goes_on_after(site: Cluster) -> None:
    site.policy()
    await cut()
    assert await times_out(seconds=1.5)
    waiting = asyncio.create_task(answers(EDGE))
    site.policy(EVERYBODY)
    await waiting
    await eventually(lambda: answers(EDGE), 30, "lifted")


async def test_a_cut_acts_within_a_second(site: Cluster) -> None:
    site.policy()
    await asyncio.sleep(1.0)
    assert await times_out()


async def test_an_open_connection_stalls_without_a_word_and_goes_on(site: Cluster) -> None:
    async with conversation() as talk:
        await talk.exchange(b"before")
        site.policy()
        await cut()
        talk.say(b"during")
        assert await talk.silent()
        site.policy(EVERYBODY)
        await talk.hears(b"during")
        await talk.exchange(b"after")


async def test_what_ends_during_a_cut_is_told_when_it_is_lifted(site: Cluster) -> None:
    async with conversation() as talk:
        await talk.exchange(b"before")
        site.policy()
        await cut()
        talk.writer.write_eof()
        assert await talk.silent(), "the pod has heard nothing"
        site.policy(EVERYBODY)
        async with asyncio.timeout(30):
            assert await talk.reader.read() == b""


async def test_only_the_sources_that_are_cut_are_dropped(site: Cluster) -> None:
    async with conversation(source=USERS) as spared, conversation(source=CUT_USERS) as stalled:
        for talk in (spared, stalled):
            await talk.exchange(b"before")
        site.policy(ALL_BUT_SOME)
        await cut(CUT_USERS)
        assert await answers(EDGE, USERS)
        await spared.exchange(b"still here")
        stalled.say(b"lost")
        assert await stalled.silent()
        site.policy(EVERYBODY)
        await stalled.hears(b"lost")


async def test_without_a_filter_cut_sources_are_accepted_and_hear_nothing(
    site: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.kubernetes.forwarder.silence", lambda _sockets, _gate: False)
    site.policy(ALL_BUT_SOME)
    await asyncio.sleep(1.0)
    async with conversation(source=CUT_USERS) as talk:
        talk.say(b"anybody")
        assert await talk.silent()
        assert await answers(EDGE, USERS)
        site.policy(EVERYBODY)
        await talk.hears(b"anybody")


@pytest.mark.parametrize("program", [CALLER, DUAL_STACK], ids=["IPv4", "IPv4 in IPv6"])
async def test_at_a_cluster_ip_the_pod_that_calls_is_known(site: Cluster, program: str) -> None:
    async with echo_server((f"{BLOCK}.64.2", 8080)):
        site.pod("t", f"{BLOCK}.64.2", app="triton")
        friend = site.pod("f", f"{BLOCK}.64.3", app="friend")["metadata"]["uid"]
        foe = site.pod("x", f"{BLOCK}.64.4", app="foe")["metadata"]["uid"]
        front = (site.service("triton"), 8080)
        await eventually(lambda: answers(front), 30, "the ClusterIP serves")
        async with caller(friend, front, program) as good, caller(foe, front, program) as bad:
            for each in (good, bad):
                each.say("before")
                assert await each.hears() == "before"
            site.policy(FROM_FRIENDS, app="triton")
            await asyncio.sleep(1.0)
            good.say("friend")
            bad.say("foe")
            assert await good.hears() == "friend"
            assert await bad.hears(0.4) == ""
            async with caller(friend, front, program) as newer, caller(foe, front, program) as ignored:
                newer.say("hello")
                ignored.say("hello")
                assert await newer.hears() == "hello"
                assert await ignored.hears(0.4) == ""
                site.policy(EVERYBODY, app="triton")
                assert await ignored.hears() == "hello"
            assert await bad.hears() == "foe"


async def test_at_a_cluster_ip_nobody_may_reach_connecting_times_out(site: Cluster) -> None:
    site.policy(app="triton")
    async with echo_server((f"{BLOCK}.64.2", 8080)):
        front = (site.service("triton"), 8080)
        assert await refuses(*front)
        site.pod("t", f"{BLOCK}.64.2", app="triton")
        seen = set()
        async with asyncio.timeout(30):
            while "nothing" not in seen:
                seen.add(await connecting(front))
        assert "open" not in seen, "no handshake from its first moment"


async def test_a_delay_holds_back_each_direction_it_names(site: Cluster) -> None:
    async with conversation() as talk:
        quick = await talk.exchange(b"before")
        site.chaos("late", **DELAY, direction="to")
        await site.injected("late")
        assert await talk.exchange(b"open already") >= LATE
        async with conversation() as newer:
            assert await newer.exchange(b"new") >= 2 * LATE, "a handshake, and the answer"
            assert await newer.exchange(b"again") >= LATE
        site.store.delete(NETWORK_CHAOS, "shop", "late")

        async def healed() -> bool:
            return await talk.exchange(b"x") < 0.15

        await eventually(healed, 30, "healed by deletion")
    assert quick < 0.15, "this test measures something"


async def test_bytes_stay_in_order_whatever_the_jitter(site: Cluster) -> None:
    site.chaos("noise", action="delay", delay={"latency": "30ms", "jitter": "30ms"})
    await site.injected("noise")
    async with conversation() as talk:
        words = [f"{number:04d}".encode() for number in range(200)]
        for word in words:
            talk.say(word)
            await asyncio.sleep(0)
        talk.writer.write_eof()
        async with asyncio.timeout(30):
            assert await talk.reader.read() == b"".join(words), "all of it, then the end"


async def test_a_limit_lets_no_more_through_a_second_over_all_connections(site: Cluster) -> None:
    site.chaos("slow", action="bandwidth", bandwidth={"rate": "400kbps", "limit": 20971520, "buffer": 10000})
    await site.injected("slow")
    loop = asyncio.get_running_loop()
    async with conversation() as one, conversation() as two:
        start = loop.time()
        data = b"x" * 100 * 1024
        for talk in (one, two):
            talk.say(data)
        await asyncio.gather(one.hears(data), two.hears(data))
        assert loop.time() - start >= 0.5


async def test_a_partition_stalls_and_its_duration_lifts_it(site: Cluster) -> None:
    async with conversation() as talk:
        await talk.exchange(b"before")
        site.chaos("cut", action="partition", direction="both", duration="4s")
        await site.injected("cut")
        await cut()
        talk.say(b"during")
        assert await talk.silent()
        await talk.hears(b"during", 8)
        await site.until_condition(NETWORK_CHAOS, "cut", "AllRecovered")
        await eventually(lambda: answers(EDGE), 30, "and new ones come in")


async def test_a_fault_ends_in_time_though_the_edge_hears_nothing_any_more(site: Cluster) -> None:
    site.chaos("cut", action="partition", direction="both", duration="4s")
    await site.injected("cut")
    await cut()
    await site.silence_api()
    await eventually(lambda: answers(EDGE), 8, "lifted by the edge's own clock")


@pytest.mark.parametrize("side", ["Request", "Response"])
async def test_an_abort_resets_open_and_new_connections(site: Cluster, side: str) -> None:
    async with conversation() as talk:
        await talk.exchange(b"before")
        site.chaos("abort", target=side, port=8080, path="*", abort=True)
        await site.injected("abort", http=True)
        for each in (talk, None):
            async with contextlib.AsyncExitStack() as stack:
                heard = each or await stack.enter_async_context(conversation())
                heard.say(b"GET / HTTP/1.1\r\n\r\n")
                with pytest.raises(ConnectionResetError):
                    await heard.hears(b"G")
        site.store.delete(HTTP_CHAOS, "shop", "abort")
        await eventually(lambda: serves_again(), 30, "healed")


async def serves_again() -> bool:
    try:
        return await answers(EDGE)
    except ConnectionResetError:
        return False
