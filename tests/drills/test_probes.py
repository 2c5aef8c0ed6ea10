"""Each probe holds for the answer it is after, and fails, saying why, for every other."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

import httpx
import pytest
from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from drills import resolver
from drills.drill import Probe
from drills.probes import (
    CheckersSplit,
    DnsHealth,
    DnsNames,
    GoldenAnswer,
    MarkSeen,
    Unreachable,
    WritesRefused,
    checkers,
    writes,
)
from stacks.contract import Deployment
from tests.drills.worlds import DIGEST, a_deployment

pytestmark = pytest.mark.live

TOKEN = "token"
HEALTHY = {"status": TOKEN, "digest": DIGEST}
OBSERVATION = (
    "<HealthCheckObservation><Region>r</Region><IPAddress>192.0.2.1</IPAddress>"
    "<StatusReport><Status>{}</Status></StatusReport></HealthCheckObservation>"
)

THROTTLING = (
    '<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type>'
    "<Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>"
)


@dataclass
class Site:
    """A server whose answers a test decides."""

    health: tuple[int, bytes] = (200, json.dumps(HEALTHY).encode())
    ranking: list[str] = field(default_factory=lambda: [f"item-{number}" for number in range(50)])
    status: int = 200
    checkers: tuple[str, ...] = ("Success: HTTP Status Code 200, OK",)
    hosts: list[str] = field(default_factory=list)
    asked: int = 0
    """Questions for what the checkers see."""
    throttles: bool = False
    port: int = 0

    def handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: bytes) -> None:
                site.hosts.append(self.headers["Host"])
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if self.path.startswith("/2013-04-01/healthcheck/"):
                    site.asked += 1
                    if site.throttles:
                        self.answer(400, THROTTLING.encode())
                        return
                    seen = "".join(OBSERVATION.format(status) for status in site.checkers)
                    body = (
                        '<GetHealthCheckStatusResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/">'
                        f"<HealthCheckObservations>{seen}</HealthCheckObservations></GetHealthCheckStatusResponse>"
                    )
                    self.answer(200, body.encode())
                else:
                    self.answer(*site.health)

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                items = [{"id": item, "score": 1.0} for item in site.ranking[: asked["k"]]]
                self.answer(site.status, json.dumps({"items": items}).encode())

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test has its own answers of the DNS service's API, even at a port that was used before."""
    checkers._kept.clear()
    monkeypatch.setattr(resolver, "_addresses_of", {})


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.84.0.1", 0), site.handler())
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


@contextmanager
def name_server(addresses: tuple[str, ...], only: tuple[str, ...] = (), host: str = "127.84.0.1") -> Iterator[str]:
    """A name server that answers with its addresses in turn, a site's own name with all of `only`; host:port."""

    class Answers(BaseResolver):
        turns = cycle(addresses)

        def resolve(self, request: DNSRecord, _: object) -> DNSRecord:
            reply = request.reply()
            own = only and str(request.q.qname).startswith("private")
            for address in only if own else (next(self.turns),):
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=5))
            return reply

    server = DNSServer(Answers(), address=host, port=0, logger=DNSLogger("-request,-reply"))
    server.start_thread()
    try:
        yield f"{host}:{server.server.server_address[1]}"
    finally:
        server.stop()
        server.thread.join(30)
        server.server.server_close()


def deployed(site: Site) -> Deployment:
    """Both sites of the declaration are this one server, which is also the DNS service's API."""
    deployment = a_deployment()
    sites = {
        name: replace(endpoint, address="127.84.0.1", port=site.port)
        for name, endpoint in deployment.traffic.sites.items()
    }
    traffic = replace(
        deployment.traffic, sites=sites, dns_api=f"http://127.84.0.1:{site.port}", request_timeout_seconds=15.0
    )
    return replace(deployment, traffic=traffic)


async def said(probe: Probe, *, held: bool) -> str:
    observation = await probe.ask()
    assert observation.held is held, str(observation)
    return str(observation)


async def test_a_golden_answer_of_the_declared_digest_holds(site: Site) -> None:
    assert DIGEST in await said(GoldenAnswer(deployed(site), "private"), held=True)
    assert site.hosts == [f"recommend.tandem.test:{site.port}"], "it asks as a client of the service would"


@pytest.mark.parametrize(
    ("health", "why"),
    [
        ((503, json.dumps(HEALTHY).encode()), "503"),
        ((200, b'{"status": "ill", "reason": "wrong"}'), "wrong"),
        ((200, b" " * 512 + json.dumps(HEALTHY).encode()), "200"),
        ((200, b"token but no JSON"), "no JSON object"),
        ((200, b'["token"]'), "no JSON object"),
        ((200, json.dumps({**HEALTHY, "digest": f"sha256:{'b' * 64}"}).encode()), "bbbb"),
    ],
    ids=["not 200", "no token", "token too late", "no JSON", "no object", "another digest"],
)
async def test_any_other_golden_answer_fails_and_says_why(site: Site, health: tuple[int, bytes], why: str) -> None:
    site.health = health
    assert why in await said(GoldenAnswer(deployed(site), "private"), held=False)


async def test_a_site_that_answers_is_not_lost_and_one_that_does_not_is(site: Site) -> None:
    await said(Unreachable(deployed(site), "private"), held=False)
    site.status = 503
    await said(Unreachable(deployed(site), "private"), held=True)
    gone = a_deployment()
    assert "Connect" in await said(Unreachable(gone, "private"), held=True)
    assert "Connect" in await said(GoldenAnswer(gone, "private"), held=False)


@pytest.mark.parametrize(
    ("error", "bit"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("late"), True),
        (httpx.ReadTimeout("late"), True),
        (httpx.ReadError("reset"), True),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), True),
        (httpx.RemoteProtocolError("illegal status line"), False),
        (httpx.PoolTimeout("too many of our own"), False),
        (httpx.ProxyError("403"), False),
        (httpx.UnsupportedProtocol("no such scheme"), False),
        (httpx.LocalProtocolError("illegal header"), False),
        (httpx.DecodingError("no gzip"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_only_a_silent_target_is_unreachable_and_not_a_fault_of_the_asker(
    monkeypatch: pytest.MonkeyPatch, error: httpx.HTTPError, *, bit: bool
) -> None:
    async def post(*_: object, **__: object) -> httpx.Response:
        raise error

    monkeypatch.setattr(httpx.AsyncClient, "post", post)
    await said(Unreachable(a_deployment(), "private"), held=bit)


async def test_a_name_nobody_knows_and_a_certificate_nobody_trusts_are_no_lost_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cause in (socket.gaierror(-2, "unknown"), ssl.SSLCertVerificationError("self-signed")):

        async def post(*_: object, cause: Exception = cause, **__: object) -> httpx.Response:
            raise httpx.ConnectError(str(cause)) from cause

        monkeypatch.setattr(httpx.AsyncClient, "post", post)
        await said(Unreachable(a_deployment(), "private"), held=False)


GOOD, BAD = "Success: HTTP Status Code 200, OK", "Failure: Resolved IP: 127.0.0.1. Connection refused"


@pytest.mark.parametrize(
    ("checkers", "healthy"),
    [((GOOD,) * 16, True), ((GOOD,) * 3 + (BAD,) * 13, True), ((GOOD,) * 2 + (BAD,) * 14, False), ((BAD,) * 8, False)],
    ids=["all", "3 of 16 is above 18 %", "2 of 16 is below", "none"],
)
async def test_dns_health_follows_the_eighteen_percent_rule(
    site: Site, checkers: tuple[str, ...], *, healthy: bool
) -> None:
    site.checkers = checkers
    await said(DnsHealth(deployed(site), "private"), held=healthy)


async def test_no_reports_prove_no_health(site: Site) -> None:
    site.checkers = ()
    await said(DnsHealth(deployed(site), "private"), held=False)


@pytest.mark.parametrize(
    ("checkers", "split"),
    [
        ((GOOD,) * 8 + (BAD,) * 8, True),
        ((GOOD,) * 4 + (BAD,) * 12, True),
        ((GOOD,) * 13 + (BAD,) * 3, False),
        ((GOOD,) * 16, False),
        ((BAD,) * 16, False),
        ((), False),
    ],
    ids=["half", "a quarter", "three of 16 are no split", "none cut", "all cut", "no reports"],
)
async def test_checkers_are_split_when_a_quarter_of_them_sees_the_other_thing(
    site: Site, checkers: tuple[str, ...], *, split: bool
) -> None:
    site.checkers = checkers
    await said(CheckersSplit(deployed(site), "private"), held=split)


@pytest.mark.parametrize(
    ("checkers", "seen"),
    [((GOOD,) * 3 + (BAD,) * 13, True), ((GOOD,) * 2 + (BAD,) * 14, False), ((BAD,) * 16, False), ((), False)],
    ids=["three of 16", "two of 16", "nobody", "no reports"],
)
@pytest.mark.parametrize("shadow", [False, True], ids=["live", "shadow"])
async def test_a_mark_is_seen_when_enough_checkers_find_it(
    site: Site, checkers: tuple[str, ...], *, seen: bool, shadow: bool
) -> None:
    site.checkers = checkers
    await said(MarkSeen(deployed(site), "private", shadow), held=seen)


async def test_a_site_of_little_weight_is_asked_for_often_enough_to_be_missed() -> None:
    """At a weight of 2 %, forty answers in a row miss it nearly every second time."""
    with name_server(("127.84.0.2",) * 60 + ("127.84.0.1",)) as server:
        deployment = a_deployment()
        sites = {
            "private": replace(deployment.traffic.sites["private"], address="127.84.0.1", weight=2),
            "public": replace(deployment.traffic.sites["public"], address="127.84.0.2", weight=98),
        }
        traffic = replace(deployment.traffic, sites=sites, resolver=server)
        gone = DnsNames(replace(deployment, traffic=traffic), "private", leads=False)
        assert re.search(r"within (6[1-9]|7\d|80) answers", await said(gone, held=False))


async def test_an_answer_that_is_the_callers_fault_or_a_busy_site_is_no_loss(site: Site) -> None:
    for status in (200, 400, 404, 429):
        site.status = status
        await said(Unreachable(deployed(site), "private"), held=False)


@pytest.mark.parametrize("answered", [("127.84.0.1", "127.84.0.2"), ("127.84.0.2",)], ids=["among others", "never"])
async def test_dns_leads_to_a_site_or_leads_nobody_there(answered: tuple[str, ...]) -> None:
    with name_server(answered) as server:
        deployment = a_deployment()
        sites = {name: replace(end, address="127.84.0.1") for name, end in deployment.traffic.sites.items()}
        traffic = replace(deployment.traffic, sites=sites, resolver=server)
        there = "127.84.0.1" in answered
        await said(DnsNames(replace(deployment, traffic=traffic), "private"), held=there)
        await said(DnsNames(replace(deployment, traffic=traffic), "private", leads=False), held=not there)


async def test_a_silent_name_server_proves_neither() -> None:
    deployment = a_deployment()
    traffic = replace(deployment.traffic, resolver="127.84.0.9:1")
    for leads in (True, False):
        await said(DnsNames(replace(deployment, traffic=traffic), "private", leads=leads), held=False)


def balanced(deployment: Deployment) -> Deployment:
    """The private site entered through a load balancer."""
    pool = replace(deployment.pool["private"], edge_dns_name="edge.elb.example")
    return replace(deployment, pool={**deployment.pool, "private": pool})


async def test_any_address_of_a_load_balancer_leads_to_its_site() -> None:
    with name_server(("127.84.0.2", "127.84.0.4"), only=("127.84.0.3", "127.84.0.4")) as server:
        deployment = a_deployment(resolver=server)
        await said(DnsNames(balanced(deployment), "private"), held=True)
        await said(DnsNames(balanced(deployment), "private", leads=False), held=False)
        await said(DnsNames(deployment, "private"), held=False)
    with name_server(("127.84.0.2",), only=("127.84.0.3", "127.84.0.4")) as server:
        await said(DnsNames(balanced(a_deployment(resolver=server)), "private", leads=False), held=True)


async def test_without_a_resolver_the_zones_own_name_servers_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them is silent, and a resolver that caches would say the same forty times."""
    with name_server(("127.0.0.2", "127.0.0.1")) as server:
        monkeypatch.setattr(resolver, "DNS_PORT", int(server.rpartition(":")[2]))
        await said(DnsNames(a_deployment(name_servers=["127.84.0.1"]), "private"), held=True)
        await said(DnsNames(a_deployment(name_servers=["127.84.0.9", "127.84.0.1"]), "private"), held=True)
        assert "127.84.0.9" in await said(DnsNames(a_deployment(name_servers=["127.84.0.9"]), "private"), held=False)


async def test_a_zone_whose_name_servers_nobody_knows_proves_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror("not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for servers, why in ((["ns-1.tandem.invalid."], "ns-1.tandem.invalid.: not known"), ([], "none is exported")):
        for leads in (True, False):
            deployment = a_deployment(name_servers=servers)
            assert why in await said(DnsNames(deployment, "private", leads=leads), held=False)


async def test_probes_of_one_check_share_an_answer_for_a_while(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = deployed(site)
    await said(DnsHealth(deployment, "private"), held=True)
    await said(CheckersSplit(deployment, "private"), held=False)
    assert site.asked == 1
    await said(DnsHealth(deployment, "public"), held=True)
    assert site.asked == 2, "another check"
    monkeypatch.setattr(checkers, "KEPT_SECONDS", 0.0)
    checkers._kept.clear()
    site.checkers = (BAD,) * 16
    await said(DnsHealth(deployment, "private"), held=False)
    site.checkers = (GOOD,) * 16
    await said(DnsHealth(deployment, "private"), held=True)


async def test_an_api_that_throttles_is_told_from_a_site_that_is_ill(site: Site) -> None:
    site.throttles = True
    for probe in (DnsHealth, CheckersSplit, MarkSeen):
        assert "API throttles: it takes 5 requests/s" in await said(probe(deployed(site), "private"), held=False)


async def test_the_probe_of_writes_keeps_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    client = writes.boto3.client
    monkeypatch.setattr(writes.boto3, "client", lambda *given, **named: made.append("") or client(*given, **named))
    for _ in range(2):
        await said(WritesRefused("http://127.84.0.9:2"), held=False)
    assert len(made) == 1
