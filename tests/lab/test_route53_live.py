"""From a declaration in the AWS API to DNS packets: real processes, real probes, an endpoint that turns bad."""

from __future__ import annotations

import collections
import http.server
import json
import os
import signal
import threading
import time
import urllib.request

import boto3
import dns.message
import dns.query
import dns.rcode
import pytest
from botocore.config import Config

from lab import control
from lab.members import table
from lab.process import wait_until
from lab.state import LabState, Plan
from lab.topology import Topology

pytestmark = pytest.mark.live

TOPOLOGY = Topology.in_blocks({"private": ("private", "127.77")}, shared_block="127.77")
FACTOR = 20.0
"""An interval of 10 s is half a second here; detection is bound by threshold x interval plus one probe."""
TOKEN = "tandem-golden-ok"
SITES = {"private": "127.77.0.130", "public": "127.77.0.131"}
PORT = 8080


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address) -> None:
        self.token = TOKEN
        self.sources = set()
        super().__init__((address, PORT), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.sources.add(self.client_address[0])
        body = json.dumps({"status": self.server.token}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("route53")
    members = table(TOPOLOGY, checkers=8, clock_factor=FACTOR)
    chosen = tuple(one for one in members if one.name in ("aws", "route53"))
    control.up(home, Plan(TOPOLOGY, chosen))
    yield home
    control.down(home)


@pytest.fixture(scope="module")
def sites():
    running = {name: Site(address) for name, address in SITES.items()}
    yield running
    for site in running.values():
        site.shutdown()
        site.server_close()


@pytest.fixture(scope="module")
def route53(lab):
    client = boto3.client(
        "route53",
        endpoint_url=TOPOLOGY.aws_url,
        region_name="us-east-1",
        aws_access_key_id="lab",
        aws_secret_access_key="lab",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


@pytest.fixture(scope="module")
def declared(route53, sites):
    """Ids of the checks of a weighted name over both sites, 100 to 100."""
    zone = route53.create_hosted_zone(Name="tandem.test", CallerReference="1")["HostedZone"]["Id"]
    checks, changes = {}, []
    for name, address in SITES.items():
        config = {
            "Type": "HTTP_STR_MATCH",
            "IPAddress": address,
            "Port": PORT,
            "ResourcePath": "/healthz",
            "SearchString": TOKEN,
            "RequestInterval": 10,
            "FailureThreshold": 2,
        }
        made = route53.create_health_check(CallerReference=name, HealthCheckConfig=config)
        checks[name] = made["HealthCheck"]["Id"]
        record = {
            "Name": "api.tandem.test",
            "Type": "A",
            "TTL": 5,
            "SetIdentifier": name,
            "Weight": 100,
            "HealthCheckId": checks[name],
            "ResourceRecords": [{"Value": address}],
        }
        changes.append({"Action": "CREATE", "ResourceRecordSet": record})
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    assert wait_until(lambda: ask().rcode() == dns.rcode.NOERROR, 30)
    return checks


def ask(name="api.tandem.test", by=dns.query.udp):
    query = dns.message.make_query(name, "A")
    return by(query, TOPOLOGY.dns_host, port=TOPOLOGY.dns_port, timeout=30)


def answered(count=40):
    return collections.Counter(ask().answer[0][0].address for _ in range(count))


def status():
    with urllib.request.urlopen(f"{TOPOLOGY.prober_url}/status", timeout=30) as answer:  # noqa: S310  # the prober of this test
        return json.load(answer)


def test_a_site_that_answers_wrongly_leaves_dns_and_comes_back(declared, sites, route53) -> None:
    assert set(answered()) == set(SITES.values())
    assert wait_until(lambda: len(sites["private"].sources) == 8, 30), "every checker probes from its own address"
    began = time.monotonic()
    sites["private"].token = "ill"
    assert wait_until(lambda: set(answered(12)) == {SITES["public"]}, 30)
    assert time.monotonic() - began < 2 * (10 / FACTOR + 6) + 2
    seen = route53.get_health_check_status(HealthCheckId=declared["private"])["HealthCheckObservations"]
    assert len(seen) == 8
    assert all("search string" in one["StatusReport"]["Status"] for one in seen)
    assert not status()["checks"][declared["private"]]["healthy"]
    sites["private"].token = TOKEN
    assert wait_until(lambda: set(answered(12)) == set(SITES.values()), 30)


def test_when_every_site_is_ill_all_are_answered(declared, sites) -> None:
    for site in sites.values():
        site.token = "ill"
    assert wait_until(lambda: not any(check["healthy"] for check in status()["checks"].values()), 30)
    assert set(answered()) == set(SITES.values())
    for site in sites.values():
        site.token = TOKEN
    assert wait_until(lambda: all(check["healthy"] for check in status()["checks"].values()), 30)


def test_the_shortened_clock_is_told(declared) -> None:
    assert status()["clock_factor"] == FACTOR


def test_udp_and_tcp_give_the_same_kinds_of_answer(declared) -> None:
    for by in (dns.query.udp, dns.query.tcp):
        assert ask(by=by).answer[0].ttl == 5
        assert ask("nothing.tandem.test", by).rcode() == dns.rcode.NXDOMAIN
        assert ask("example.org", by).rcode() == dns.rcode.REFUSED


def test_health_is_data_plane_it_goes_on_without_the_api(declared, sites, lab) -> None:
    assert wait_until(lambda: set(answered(12)) == set(SITES.values()), 30)
    api = LabState.read(lab).members["aws"].pid
    os.kill(api, signal.SIGSTOP)
    try:
        assert wait_until(lambda: status()["api_trouble"] != "", 30)
        sites["public"].token = "ill"
        assert wait_until(lambda: set(answered(12)) == {SITES["private"]}, 30)
        sites["public"].token = TOKEN
        assert wait_until(lambda: set(answered(12)) == set(SITES.values()), 30)
    finally:
        sites["public"].token = TOKEN
        os.kill(api, signal.SIGCONT)
    assert wait_until(lambda: status()["api_trouble"] == "", 30)
