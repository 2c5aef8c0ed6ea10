"""The load generator, in this process, against a small HTTP server and a real DNS server on loopback."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections import Counter
from typing import Any

import pytest

from drills.drill import NotRun, until
from drills.generator import generate
from drills.load import Outcome, Sample, Tally
from tests.drills.answering import FIRST, NAME_SERVER, SECOND, SILENT, Site, Zone, outcomes, serving, settings

pytestmark = pytest.mark.live


async def test_users_take_turns_on_a_fixed_schedule_and_answers_are_judged_right(
    resolver: str, port: int, site: Site
) -> None:
    tally = Tally()
    result = await generate(settings(resolver, port), 1.0, tally=tally)
    assert outcomes(result) == {"ok": 50}
    assert site.connections == 50, "every request opens its own connection"
    by_intent = sorted(result.samples, key=lambda sample: sample.intended)
    assert [sample.user for sample in by_intent] == [turn % 25 for turn in range(50)]
    gaps = [later.intended - sooner.intended for sooner, later in itertools.pairwise(by_intent)]
    assert all(abs(gap - 0.02) < 1e-6 for gap in gaps)
    assert {(s.site, s.digest, s.status, s.address, s.client_class) for s in by_intent} == {
        ("private", "sha256:private", 200, FIRST, "dns")
    }
    assert (tally.finished, tally.in_flight, tally.sites["private"]) == (50, 0, 50)


async def test_users_keep_an_answer_for_its_time_to_live(resolver: str, port: int, zone: Zone) -> None:
    zone.ttl = 60
    result = await generate(settings(resolver, port), 1.9)
    assert outcomes(result) == {"ok": 95}
    assert zone.questions == 25, "once for each user"


async def test_users_follow_a_changed_record_only_when_their_own_answer_expires(
    resolver: str, port: int, zone: Zone
) -> None:
    async with serving(Site("public"), SECOND, port):
        load = asyncio.create_task(generate(settings(resolver, port), 2.5))
        await asyncio.sleep(0.6)
        zone.addresses, changed = [SECOND], time.monotonic()
        result = await load
    late = [s.intended - changed for s in result.samples if s.site == "private" and s.intended > changed]
    assert outcomes(result) == {"ok": 125}
    assert late, "cached answers outlive the change"
    assert max(late) <= 1.5, "a busy machine hands an answer over late"
    assert {s.site for s in result.samples if s.intended > changed + 1.5} == {"public"}


async def test_two_records_share_the_users(resolver: str, port: int, zone: Zone) -> None:
    zone.addresses, zone.ttl = [FIRST, SECOND], 60
    async with serving(Site("public"), SECOND, port):
        result = await generate(settings(resolver, port, users=21, rate_per_second=21.0), 3.0)
    by_user = {sample.user: sample.address for sample in result.samples}
    # Answers come in turn; a question that is asked again, on a busy machine, is a turn as well.
    assert min(Counter(by_user.values())[address] for address in (FIRST, SECOND)) >= 7
    assert all(sample.address == by_user[sample.user] for sample in result.samples)


async def test_a_closed_port_is_refused(resolver: str, zone: Zone) -> None:
    zone.addresses = [SILENT]
    result = await generate(settings(resolver, 9), 0.2)
    assert outcomes(result) == {"refused": 10}
    assert result.samples[0].address == SILENT


async def test_a_silent_service_is_a_timeout_and_delays_nobody_else(resolver: str, port: int, site: Site) -> None:
    site.delay_seconds = 20
    start = time.monotonic()
    result = await generate(settings(resolver, port, request_timeout_seconds=0.5), 0.4)
    assert time.monotonic() - start < 15
    assert outcomes(result) == {"timeout": 20}
    assert all(0.5 <= s.finished - s.started < 5 for s in result.samples)
    assert result.lag.p50_ms < 250, "the schedule does not wait for answers"


async def test_a_listener_that_accepts_nothing_is_a_timeout(resolver: str, zone: Zone) -> None:
    with socket.socket() as deaf:
        deaf.bind((SILENT, 0))
        deaf.listen(16)
        zone.addresses = [SILENT]
        result = await generate(settings(resolver, deaf.getsockname()[1], request_timeout_seconds=0.5), 0.1)
    assert outcomes(result) == {"timeout": 5}


async def test_an_answer_that_is_cut_is_a_reset(resolver: str, port: int, site: Site) -> None:
    site.cut = True
    result = await generate(settings(resolver, port), 0.1)
    assert outcomes(result) == {"reset": 5}
    assert result.samples[0].status == 200


@pytest.mark.parametrize(
    ("status", "outcome"), [(503, "http_5xx"), (429, "shed"), (422, "http_4xx"), (204, "wrong"), (302, "wrong")]
)
async def test_a_status_other_than_200_is_a_failure(
    resolver: str, port: int, site: Site, status: int, outcome: str
) -> None:
    site.status, site.body = status, (lambda _: b"" if status == 204 else b"why")
    result = await generate(settings(resolver, port), 0.1)
    assert outcomes(result) == {outcome: 5}
    assert result.samples[0].status == status


async def test_a_200_that_is_not_right_is_wrong_and_says_why(resolver: str, port: int, site: Site) -> None:
    site.body = lambda _: b"something else"
    result = await generate(settings(resolver, port), 0.1)
    assert outcomes(result) == {"wrong": 5}
    assert "something else" in result.samples[0].detail


async def test_an_answer_the_judge_chokes_on_is_wrong(resolver: str, port: int) -> None:
    def judge(asked: bytes, answer: bytes) -> str | None:
        raise KeyError("items")

    result = await generate(settings(resolver, port, judge=judge), 0.1)
    assert outcomes(result) == {"wrong": 5}
    assert "items" in result.samples[0].detail


async def test_a_name_server_that_refuses_fails_the_request_and_the_old_answer_is_not_served_on(
    resolver: str, port: int, zone: Zone
) -> None:
    load = asyncio.create_task(generate(settings(resolver, port, users=1), 2.0))
    assert await until(lambda: zone.questions >= 1, 30)
    await asyncio.sleep(0.1)  # until the answer has been read
    zone.rcode = 2
    result = await load
    ordered = sorted(result.samples, key=lambda sample: sample.intended)
    assert {s.outcome for s in ordered if s.intended < ordered[0].started + 0.9} == {Outcome.OK}
    failed = [s for s in ordered if s.outcome is not Outcome.OK]
    assert {s.outcome for s in failed} == {Outcome.DNS}
    assert len(failed) >= 10
    assert "SERVFAIL" in failed[0].detail


async def test_a_name_server_that_is_silent_is_a_dns_failure_within_the_request_timeout(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((NAME_SERVER, 0))
        result = await generate(
            settings(f"{NAME_SERVER}:{silent.getsockname()[1]}", port, request_timeout_seconds=0.5), 0.1
        )
    assert outcomes(result) == {"dns": 5}
    assert all(s.finished - s.started < 5 for s in result.samples)


async def test_too_many_in_flight_are_counted_and_not_sent(resolver: str, port: int, site: Site) -> None:
    site.delay_seconds = 5
    result = await generate(settings(resolver, port, request_timeout_seconds=0.5, in_flight_limit=4), 0.4)
    assert outcomes(result) == {"timeout": 4, "overflow": 16}


async def test_an_event_ends_the_load_and_what_is_in_flight_is_waited_for(resolver: str, port: int, site: Site) -> None:
    site.delay_seconds = 0.2
    stop = asyncio.Event()
    seen: list[Sample] = []
    load = asyncio.create_task(generate(settings(resolver, port), stop, on_sample=seen.append))
    await asyncio.sleep(0.5)
    stop.set()
    start = time.monotonic()
    result = await load
    assert time.monotonic() - start < 5
    assert set(outcomes(result)) == {"ok"}
    assert seen == result.samples


async def test_a_cancelled_load_leaves_no_request_behind(resolver: str, port: int, site: Site) -> None:
    site.delay_seconds = 5
    load = asyncio.create_task(generate(settings(resolver, port), asyncio.Event()))
    await asyncio.sleep(0.2)
    assert [task for task in asyncio.all_tasks() if "ask" in repr(task.get_coro())]
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert not [task for task in asyncio.all_tasks() if "ask" in repr(task.get_coro())]


async def test_the_generator_s_own_lag_is_seen_when_its_loop_is_blocked(resolver: str, port: int) -> None:
    load = asyncio.create_task(generate(settings(resolver, port), 0.6))
    await asyncio.sleep(0.2)
    time.sleep(0.2)  # noqa: ASYNC251  the blocked loop is what is measured
    result = await load
    assert outcomes(result) == {"ok": 30}
    assert result.lag.max_ms >= 150


@pytest.mark.parametrize(
    "change", [{"users": 0}, {"rate_per_second": 0}, {"classes": ("magic",)}, {"classes": ()}, {"scheme": "ftp"}]
)
def test_settings_that_make_no_load_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"users|classes"):
        settings("127.83.8.53:53", 80, **change)


@pytest.mark.parametrize("blocked_seconds", [0.3])
async def test_what_was_due_before_the_end_is_asked_even_if_late(
    resolver: str, port: int, blocked_seconds: float
) -> None:
    stop = asyncio.Event()
    load = asyncio.create_task(generate(settings(resolver, port), stop))
    await asyncio.sleep(0.2)
    time.sleep(blocked_seconds)  # noqa: ASYNC251  a generator that stalls must not leave out what it missed
    stop.set()
    result = await load
    assert len(result.samples) >= 50 * (0.2 + blocked_seconds) - 1
    assert result.lag.max_ms > 200


async def test_a_source_address_that_is_not_here_is_no_failure_of_the_service(resolver: str, port: int) -> None:
    with pytest.raises(NotRun, match=r"192\.0\.2\.7 cannot be bound here"):
        await generate(settings(resolver, port, source_addresses=("192.0.2.7",)), 0.1)
    with pytest.raises(ValueError, match="no IP address"):
        settings(resolver, port, source_addresses=("over there",))
