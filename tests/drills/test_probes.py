"""Each probe holds for the answer it is after, and fails, saying why, for every other."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

import pytest
from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from drills.drill import Probe
from drills.probes import CheckersSplit, DnsHealth, DnsNames, GoldenAnswer, Unreachable
from stacks.contract import Deployment
from tests.drills.worlds import DIGEST, a_deployment

pytestmark = pytest.mark.live

TOKEN = "token"
HEALTHY = {"status": TOKEN, "digest": DIGEST}
OBSERVATION = (
    "<HealthCheckObservation><Region>r</Region><IPAddress>192.0.2.1</IPAddress>"
    "<StatusReport><Status>{}</Status></StatusReport></HealthCheckObservation>"
)


@dataclass
class Site:
    """A server whose answers a test decides."""

    health: tuple[int, bytes] = (200, json.dumps(HEALTHY).encode())
    ranking: list[str] = field(default_factory=lambda: [f"item-{number}" for number in range(50)])
    status: int = 200
    checkers: tuple[str, ...] = ("Success: HTTP Status Code 200, OK",)
    hosts: list[str] = field(default_factory=list)
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
        thread.join(10)
        server.server_close()


@contextmanager
def name_server(addresses: tuple[str, ...]) -> Iterator[str]:
    """A name server that answers every question with its addresses in turn; host:port."""

    class Answers(BaseResolver):
        turns = cycle(addresses)

        def resolve(self, request: DNSRecord, _: object) -> DNSRecord:
            reply = request.reply()
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(next(self.turns)), ttl=5))
            return reply

    server = DNSServer(Answers(), address="127.84.0.1", port=0, logger=DNSLogger("-request,-reply"))
    server.start_thread()
    try:
        yield f"127.84.0.1:{server.server.server_address[1]}"
    finally:
        server.stop()
        server.thread.join(10)
        server.server.server_close()


def deployed(site: Site) -> Deployment:
    """Both sites of the declaration are this one server, which is also the DNS service's API."""
    deployment = a_deployment()
    sites = {
        name: replace(endpoint, address="127.84.0.1", port=site.port)
        for name, endpoint in deployment.traffic.sites.items()
    }
    traffic = replace(
        deployment.traffic, sites=sites, dns_api=f"http://127.84.0.1:{site.port}", request_timeout_seconds=2.0
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
        assert "within 61 answers" in await said(gone, held=False)


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
