"""Golden and not drained: a calculated check over real probes of a site and of an object in another site's store."""

from __future__ import annotations

import collections
import http.server
import json
import threading
import time
import urllib.request

import boto3
import dns.message
import dns.query
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lab import control
from lab.members import table
from lab.process import wait_until
from lab.state import Plan
from lab.topology import Topology

pytestmark = pytest.mark.live

TOPOLOGY = Topology.in_blocks({"witness": ("private", "127.77")}, shared_block="127.77")
STORE = TOPOLOGY.site("witness")
FACTOR = 20.0
"""An interval of 10 s is half a second here."""
THRESHOLD = 2
GOLDEN, MARK = "tandem-golden-ok", "tandem-drain-mark"
SITES = {"private": "127.77.0.132", "public": "127.77.0.133"}
PORT = 8080
BUCKET = "signals"
NAME = "api.tandem.test"
BOUND_SECONDS = THRESHOLD * (10 / FACTOR + 6) + 2


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address) -> None:
        self.token, self.cut, self.sources = GOLDEN, set(), set()
        super().__init__((address, PORT), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        source = self.client_address[0]
        self.server.sources.add(source)
        body = json.dumps({"status": "cut" if source in self.server.cut else self.server.token}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("calculated")
    members = table(TOPOLOGY, checkers=16, clock_factor=FACTOR)
    control.up(home, Plan(TOPOLOGY, tuple(one for one in members if one.name in ("aws", "route53", "store-witness"))))
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
def clients(lab):
    made = [
        boto3.client(
            service,
            endpoint_url=url,
            region_name=region,
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=Config(retries={"total_max_attempts": 1}),
        )
        for service, url, region in (
            ("route53", TOPOLOGY.aws_url, "us-east-1"),
            ("s3", STORE.store_url, "eu-central-1"),
        )
    ]
    yield made
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def declared(clients, sites):
    """Ids of the golden, drain and calculated checks of each site, under one weighted name."""
    route53, s3 = clients
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{BUCKET}/drain/*",
    }
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    zone = route53.create_hosted_zone(Name="tandem.test", CallerReference="1")["HostedZone"]["Id"]
    checks, changes = {}, []

    def make(**config):
        reference = str(time.monotonic_ns())
        return route53.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]["Id"]

    matching = {"Type": "HTTP_STR_MATCH", "RequestInterval": 10, "FailureThreshold": THRESHOLD}
    for name, address in SITES.items():
        golden = make(**matching, IPAddress=address, Port=PORT, ResourcePath="/healthz", SearchString=GOLDEN)
        drain = make(
            **matching,
            IPAddress=STORE.store_host,
            Port=STORE.store_port,
            ResourcePath=f"/{BUCKET}/drain/{name}",
            SearchString=MARK,
            Inverted=True,
        )
        both = make(Type="CALCULATED", ChildHealthChecks=[golden, drain], HealthThreshold=2)
        checks[name] = {"golden": golden, "drain": drain, "both": both}
        record = {
            "Name": NAME,
            "Type": "A",
            "TTL": 5,
            "SetIdentifier": name,
            "Weight": 100,
            "HealthCheckId": both,
            "ResourceRecords": [{"Value": address}],
        }
        changes.append({"Action": "CREATE", "ResourceRecordSet": record})
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    assert wait_until(lambda: all(healthy(one["both"]) for one in checks.values()), 30)
    return checks


def answered(count=30):
    question = dns.message.make_query(NAME, "A")
    answers = [dns.query.udp(question, TOPOLOGY.dns_host, port=TOPOLOGY.dns_port, timeout=30) for _ in range(count)]
    return collections.Counter(answer.answer[0][0].address for answer in answers)


def status():
    with urllib.request.urlopen(f"{TOPOLOGY.prober_url}/status", timeout=30) as answer:  # noqa: S310  # the prober of this test
        return json.load(answer)["checks"]


def healthy(check) -> bool:
    known = status()
    return check in known and known[check]["healthy"]


def log(path):
    with urllib.request.urlopen(f"{TOPOLOGY.aws_url}{path}", timeout=30) as answer:  # noqa: S310  # the API of this test
        return json.load(answer)


def switch(method, document=None) -> None:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"{TOPOLOGY.aws_url}/tandem/refuse-writes", body, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310
        pass


def only(*names):
    return wait_until(lambda: set(answered()) == {SITES[name] for name in names}, BOUND_SECONDS)


def test_a_mark_in_a_store_takes_a_site_out_of_dns_and_its_end_brings_it_back(declared, clients) -> None:
    _, s3 = clients
    assert only("private", "public")
    s3.put_object(Bucket=BUCKET, Key="drain/private", Body=f"{MARK} {{}}".encode(), IfNoneMatch="*")
    assert only("public")
    known = status()
    assert known[declared["private"]["golden"]]["healthy"], "an emptied site is not an ill one"
    assert not known[declared["private"]["drain"]]["healthy"]
    assert known[declared["public"]["both"]]["healthy"]
    s3.delete_object(Bucket=BUCKET, Key="drain/private")
    assert only("private", "public")


def test_an_object_without_the_token_is_no_mark(declared, clients) -> None:
    _, s3 = clients
    s3.put_object(Bucket=BUCKET, Key="drain/public", Body=b"something went wrong, but here is a page")
    begun = time.time()

    def looked_since() -> bool:
        views = status()[declared["public"]["drain"]]["checkers"]
        return all(view["last_time"] > begun and "search string" in view["last_result"] for view in views)

    assert wait_until(looked_since, BOUND_SECONDS)
    assert healthy(declared["public"]["both"])
    s3.delete_object(Bucket=BUCKET, Key="drain/public")


def test_an_ill_site_leaves_though_nobody_drains_it(declared, sites) -> None:
    sites["public"].token = "ill"
    assert only("private")
    sites["public"].token = GOLDEN
    assert only("private", "public")


def test_half_of_the_checkers_cut_off_change_nothing_and_all_but_two_do(declared, sites) -> None:
    site = sites["private"]
    assert wait_until(lambda: site.sources == {f"127.77.1.{octet}" for octet in range(16, 32)}, 30)

    def seen(count) -> bool:
        views = status()[declared["private"]["golden"]]["checkers"]
        return [view["healthy"] for view in views].count(False) == count

    site.cut = {f"127.77.1.{octet}" for octet in range(16, 24)}
    assert wait_until(lambda: seen(8), BOUND_SECONDS)
    assert healthy(declared["private"]["both"])
    site.cut = {f"127.77.1.{octet}" for octet in range(16, 30)}
    assert wait_until(lambda: seen(14), BOUND_SECONDS)
    assert only("public")
    site.cut = set()
    assert only("private", "public")


def test_draining_needs_no_write_of_the_control_plane(declared, clients) -> None:
    route53, s3 = clients
    mark = log("/tandem/requests")["latest"]
    switch("PUT", {"seconds": 60})
    try:
        with pytest.raises(ClientError, match="ServiceUnavailable"):
            route53.update_health_check(HealthCheckId=declared["private"]["drain"], Inverted=False)
        s3.put_object(Bucket=BUCKET, Key="drain/private", Body=MARK.encode())
        assert only("public")
        s3.delete_object(Bucket=BUCKET, Key="drain/private")
        assert only("private", "public")
    finally:
        switch("DELETE")
    writes = log(f"/tandem/requests?since={mark}&writes=true")["requests"]
    assert [(call["action"], call["status"]) for call in writes] == [("UpdateHealthCheck", 503)]
