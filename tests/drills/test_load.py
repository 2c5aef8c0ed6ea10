"""The load generator against a small HTTP server and a real DNS server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dnslib import QTYPE, RR, A, DNSRecord  # type: ignore[import-untyped]  # ships no types
from dnslib.server import BaseResolver, DNSHandler, DNSServer  # type: ignore[import-untyped]  # ships no types

from drills.load import Lag, LoadResult, LoadSettings, Outcome, Sample, Tally, append_jsonl, run
from drills.resolver import ResolutionError, Resolver

pytestmark = pytest.mark.live

FIRST, SECOND, SILENT = "127.83.8.1", "127.83.8.2", "127.83.8.9"
NAME = "recommend.tandem.test"


class Zone(BaseResolver):  # type: ignore[misc]  # dnslib ships no types
    """Answers every question with the present address; counts the questions."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.addresses = [FIRST]
        self.ttl = 1
        self.rcode = 0
        self.questions = 0
        self.turn = 0
        self.long = False

    def resolve(self, request: DNSRecord, handler: DNSHandler | None) -> DNSRecord:
        self.questions += 1
        reply = request.reply()
        reply.header.rcode = self.rcode
        if self.long:
            reply.header.tc = int(handler is not None and handler.protocol == "udp")
            for last in range(0 if reply.header.tc else 100):
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(f"127.83.9.{last + 1}"), ttl=5))
            return reply
        if self.addresses and not self.rcode:
            address = self.addresses[self.turn % len(self.addresses)]
            self.turn += 1
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=self.ttl))
        return reply


class Quiet:
    """A DNS log that says nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture(scope="module")
def name_server() -> Iterator[tuple[Zone, str]]:
    zone = Zone()
    udp, tcp = _servers(zone)
    for server in (udp, tcp):
        server.start_thread()
    yield zone, f"127.83.8.53:{udp.server.server_address[1]}"
    for server in (udp, tcp):
        server.stop()
        server.server.server_close()


def _servers(zone: Zone) -> tuple[DNSServer, DNSServer]:
    """UDP and TCP on one port."""
    for _ in range(20):
        udp = DNSServer(zone, address="127.83.8.53", port=0, logger=Quiet())
        try:
            tcp = DNSServer(zone, address="127.83.8.53", port=udp.server.server_address[1], tcp=True, logger=Quiet())
        except OSError:
            udp.server.server_close()
        else:
            return udp, tcp
    raise AssertionError("no port that is free for UDP and TCP")


@pytest.fixture
def zone(name_server: tuple[Zone, str]) -> Zone:
    zone, _ = name_server
    zone.reset()
    return zone


@pytest.fixture
def resolver(name_server: tuple[Zone, str], zone: Zone) -> str:
    return name_server[1]


@dataclass
class Site:
    """An HTTP server that answers what the test says."""

    name: str
    status: int = 200
    delay_seconds: float = 0.0
    cut: bool = False
    body: Callable[[bytes], bytes] = lambda asked: asked
    connections: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            asked = await reader.readexactly(length)
            await asyncio.sleep(self.delay_seconds)
            body = self.body(asked)
            writer.write(
                f"HTTP/1.1 {self.status} Said\r\nX-Tandem-Site: {self.name}\r\nX-Tandem-Digest: sha256:{self.name}\r\n"
                f"Content-Length: {len(body) + 10 * self.cut}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()


@contextlib.asynccontextmanager
async def serving(site: Site, address: str, port: int = 0) -> AsyncIterator[int]:
    server = await asyncio.start_server(site.serve, address, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(site.writers):
            writer.close()
        await server.wait_closed()


@pytest.fixture
def site() -> Site:
    return Site("private")


@pytest_asyncio.fixture
async def port(site: Site) -> AsyncIterator[int]:
    async with serving(site, FIRST) as number:
        yield number


def echo(asked: bytes, answer: bytes) -> str | None:
    return None if asked == answer else f"answered {answer!r}"


def settings(resolver: str, port: int, **changes: Any) -> LoadSettings:
    values: dict[str, Any] = {
        "rate_per_second": 50.0,
        "users": 5,
        "request_timeout_seconds": 0.5,
        "host": NAME,
        "port": port,
        "path": "/v1/recommendations",
        "make_request": lambda turn: json.dumps({"turn": turn}).encode(),
        "judge": echo,
        "resolver": resolver,
    }
    return LoadSettings(**{**values, **changes})


def outcomes(result: LoadResult) -> dict[str, int]:
    return dict(Counter(sample.outcome.value for sample in result.samples))


async def test_users_take_turns_on_a_fixed_schedule_and_answers_are_judged_right(
    resolver: str, port: int, site: Site
) -> None:
    tally = Tally()
    result = await run(settings(resolver, port), 1.0, tally=tally)
    assert outcomes(result) == {"ok": 50}
    assert site.connections == 50, "every request opens its own connection"
    by_intent = sorted(result.samples, key=lambda sample: sample.intended)
    assert [sample.user for sample in by_intent] == [turn % 5 for turn in range(50)]
    gaps = [later.intended - sooner.intended for sooner, later in itertools.pairwise(by_intent)]
    assert all(abs(gap - 0.02) < 1e-6 for gap in gaps)
    assert {(s.site, s.digest, s.status, s.address, s.client_class) for s in by_intent} == {
        ("private", "sha256:private", 200, FIRST, "dns")
    }
    assert (tally.finished, tally.in_flight, tally.sites["private"]) == (50, 0, 50)


async def test_each_user_asks_dns_once_per_time_to_live(resolver: str, port: int, zone: Zone) -> None:
    result = await run(settings(resolver, port), 1.9)
    assert outcomes(result) == {"ok": 95}
    assert zone.questions == 10, "5 users, a time to live of 1 s, not quite 2 s"


async def test_users_follow_a_changed_record_only_when_their_own_answer_expires(
    resolver: str, port: int, zone: Zone
) -> None:
    async with serving(Site("public"), SECOND, port):
        load = asyncio.create_task(run(settings(resolver, port, users=10), 2.5))
        await asyncio.sleep(0.6)
        zone.addresses, changed = [SECOND], time.monotonic()
        result = await load
    late = [s.intended - changed for s in result.samples if s.site == "private" and s.intended > changed]
    assert outcomes(result) == {"ok": 125}
    assert late, "cached answers outlive the change"
    assert max(late) <= 1.0
    assert {s.site for s in result.samples if s.intended > changed + 1.0} == {"public"}


async def test_two_records_share_the_users(resolver: str, port: int, zone: Zone) -> None:
    zone.addresses, zone.ttl = [FIRST, SECOND], 60
    async with serving(Site("public"), SECOND, port):
        result = await run(settings(resolver, port, users=20, rate_per_second=200.0), 1.0)
    by_user = {sample.user: sample.address for sample in result.samples}
    assert Counter(by_user.values()) == {FIRST: 10, SECOND: 10}
    assert all(sample.address == by_user[sample.user] for sample in result.samples)


async def test_a_closed_port_is_refused(resolver: str, zone: Zone) -> None:
    zone.addresses = [SILENT]
    result = await run(settings(resolver, 9), 0.2)
    assert outcomes(result) == {"refused": 10}
    assert result.samples[0].address == SILENT


async def test_a_silent_service_is_a_timeout_and_delays_nobody_else(resolver: str, port: int, site: Site) -> None:
    site.delay_seconds = 5
    start = time.monotonic()
    result = await run(settings(resolver, port), 0.4)
    assert time.monotonic() - start < 3
    assert outcomes(result) == {"timeout": 20}
    assert all(0.5 <= s.finished - s.started < 1.5 for s in result.samples)
    assert result.lag.p50_ms < 250, "the schedule does not wait for answers"


async def test_a_listener_that_accepts_nothing_is_a_timeout(resolver: str, zone: Zone) -> None:
    with socket.socket() as deaf:
        deaf.bind((SILENT, 0))
        deaf.listen(16)
        zone.addresses = [SILENT]
        result = await run(settings(resolver, deaf.getsockname()[1]), 0.1)
    assert outcomes(result) == {"timeout": 5}


async def test_an_answer_that_is_cut_is_a_reset(resolver: str, port: int, site: Site) -> None:
    site.cut = True
    result = await run(settings(resolver, port), 0.1)
    assert outcomes(result) == {"reset": 5}
    assert result.samples[0].status == 200


@pytest.mark.parametrize(("status", "outcome"), [(503, "http_5xx"), (422, "http_4xx"), (204, "wrong"), (302, "wrong")])
async def test_a_status_other_than_200_is_a_failure(
    resolver: str, port: int, site: Site, status: int, outcome: str
) -> None:
    site.status, site.body = status, (lambda _: b"" if status == 204 else b"why")
    result = await run(settings(resolver, port), 0.1)
    assert outcomes(result) == {outcome: 5}
    assert result.samples[0].status == status


async def test_a_200_that_is_not_right_is_wrong_and_says_why(resolver: str, port: int, site: Site) -> None:
    site.body = lambda _: b"something else"
    result = await run(settings(resolver, port), 0.1)
    assert outcomes(result) == {"wrong": 5}
    assert "something else" in result.samples[0].detail


async def test_an_answer_the_judge_chokes_on_is_wrong(resolver: str, port: int) -> None:
    def judge(asked: bytes, answer: bytes) -> str | None:
        raise KeyError("items")

    result = await run(settings(resolver, port, judge=judge), 0.1)
    assert outcomes(result) == {"wrong": 5}
    assert "items" in result.samples[0].detail


async def test_a_name_server_that_refuses_fails_the_request_and_the_old_answer_is_not_served_on(
    resolver: str, port: int, zone: Zone
) -> None:
    load = asyncio.create_task(run(settings(resolver, port, users=1), 2.0))
    await asyncio.sleep(0.5)
    zone.rcode = 2
    result = await load
    ordered = sorted(result.samples, key=lambda sample: sample.intended)
    assert {s.outcome for s in ordered if s.intended < ordered[0].started + 0.9} == {Outcome.OK}
    failed = [s for s in ordered if s.outcome is not Outcome.OK]
    assert {s.outcome for s in failed} == {Outcome.DNS}
    assert len(failed) >= 40
    assert "SERVFAIL" in failed[0].detail


async def test_a_name_server_that_is_silent_is_a_dns_failure_within_the_request_timeout(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.83.8.53", 0))
        result = await run(settings(f"127.83.8.53:{silent.getsockname()[1]}", port), 0.1)
    assert outcomes(result) == {"dns": 5}
    assert all(s.finished - s.started < 1.5 for s in result.samples)


async def test_too_many_in_flight_are_counted_and_not_sent(resolver: str, port: int, site: Site) -> None:
    site.delay_seconds = 5
    result = await run(settings(resolver, port, in_flight_limit=4), 0.4)
    assert outcomes(result) == {"timeout": 4, "overflow": 16}


async def test_an_event_ends_the_load_and_what_is_in_flight_is_waited_for(resolver: str, port: int, site: Site) -> None:
    site.delay_seconds = 0.2
    stop = asyncio.Event()
    seen: list[Sample] = []
    load = asyncio.create_task(run(settings(resolver, port), stop, on_sample=seen.append))
    await asyncio.sleep(0.5)
    stop.set()
    start = time.monotonic()
    result = await load
    assert time.monotonic() - start < 1
    assert set(outcomes(result)) == {"ok"}
    assert seen == result.samples


async def test_a_cancelled_load_leaves_no_request_behind(resolver: str, port: int, site: Site) -> None:
    site.delay_seconds = 5
    load = asyncio.create_task(run(settings(resolver, port), asyncio.Event()))
    await asyncio.sleep(0.2)
    assert [task for task in asyncio.all_tasks() if "ask" in repr(task.get_coro())]
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert not [task for task in asyncio.all_tasks() if "ask" in repr(task.get_coro())]


async def test_the_generator_s_own_lag_is_seen_when_its_loop_is_blocked(resolver: str, port: int) -> None:
    load = asyncio.create_task(run(settings(resolver, port), 0.6))
    await asyncio.sleep(0.2)
    time.sleep(0.2)  # noqa: ASYNC251  the blocked loop is what is measured
    result = await load
    assert outcomes(result) == {"ok": 30}
    assert 150 <= result.lag.max_ms < 400


def test_lag_quantiles_are_nearest_rank() -> None:
    def sample(late_ms: float) -> Sample:
        return Sample(10.0, 10.0 + late_ms / 1000, 11.0, 0, "dns", None, None, None, Outcome.OK, None, "")

    assert Lag.of([sample(ms) for ms in range(1, 101)]) == Lag(p50_ms=50, p99_ms=99, max_ms=100)
    assert Lag.of([]) == Lag(0, 0, 0)


def test_samples_survive_a_file(tmp_path: Path) -> None:
    samples = [
        Sample(1.5, 1.6, 2.0, 3, "dns", "private", FIRST, 200, Outcome.OK, "sha256:x", ""),
        Sample(2.5, 2.6, 3.0, 4, "dns", None, None, None, Outcome.DNS, None, "SERVFAIL"),
    ]
    append_jsonl(tmp_path / "samples.jsonl", samples[:1])
    append_jsonl(tmp_path / "samples.jsonl", samples[1:])
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert [Sample.from_json(line) for line in lines] == samples


@pytest.mark.parametrize(
    "change", [{"users": 0}, {"rate_per_second": 0}, {"classes": ("magic",)}, {"classes": ()}, {"scheme": "ftp"}]
)
def test_settings_that_make_no_load_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"users|classes"):
        settings("127.83.8.53:53", 80, **change)


async def test_the_resolver_gives_addresses_and_time_to_live(resolver: str, zone: Zone) -> None:
    zone.ttl = 17
    found = await Resolver(resolver).resolve(NAME)
    assert (found.addresses, found.ttl_seconds) == ((FIRST,), 17)


async def test_an_answer_too_long_for_udp_is_fetched_over_tcp(resolver: str, zone: Zone) -> None:
    zone.long = True
    assert len((await Resolver(resolver).resolve(NAME)).addresses) == 100


@pytest.mark.parametrize(
    ("change", "said"),
    [({"rcode": 3}, "NXDOMAIN"), ({"rcode": 5}, "REFUSED"), ({"addresses": []}, "no address")],
    ids=["nxdomain", "refused", "empty"],
)
async def test_what_a_name_server_cannot_answer_is_named(
    resolver: str, zone: Zone, change: dict[str, Any], said: str
) -> None:
    for field_name, value in change.items():
        setattr(zone, field_name, value)
    with pytest.raises(ResolutionError, match=said):
        await Resolver(resolver).resolve(NAME)
    assert zone.questions == 1, "an answer is an answer: it is not asked again"


async def test_a_lost_question_is_asked_once_more(zone: Zone) -> None:
    class Lossy(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.seen = transport, 0

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.seen += 1
            if self.seen == 2:
                self.transport.sendto(zone.resolve(DNSRecord.parse(data), None).pack(), addr)

    transport, lossy = await asyncio.get_running_loop().create_datagram_endpoint(Lossy, local_addr=("127.83.8.53", 0))
    port = transport.get_extra_info("sockname")[1]
    found = await Resolver(f"127.83.8.53:{port}", timeout_seconds=0.2).resolve(NAME)
    assert (found.addresses, lossy.seen) == ((FIRST,), 2)
    transport.close()


def test_a_resolver_without_address_or_port_is_refused() -> None:
    for bad in ("resolver.example:53", "127.0.0.1", "127.0.0.1:dns"):
        with pytest.raises(ResolutionError, match="no address:port"):
            Resolver(bad)
