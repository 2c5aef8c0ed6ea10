"""From a heartbeat to DNS packets: a site no checker asks leaves when it says so, and when it says nothing."""

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

from lab import control
from lab.aws.alarm import RANGE_EXTRA
from lab.aws.cloudwatch import EVALUATION_SECONDS
from lab.aws.route53 import POLL_SECONDS
from lab.members import table
from lab.process import wait_until
from lab.state import Plan
from lab.topology import Topology
from serving.heartbeat import Heartbeat

pytestmark = pytest.mark.live

TOPOLOGY = Topology.in_blocks({"witness": ("private", "127.77")}, shared_block="127.77")
FACTOR = 20.0
"""A period of a minute is three seconds here."""
PERIOD_SECONDS = 60 / FACTOR
SILENCE_SECONDS = PERIOD_SECONDS * (1 + 1 + RANGE_EXTRA) + EVALUATION_SECONDS / FACTOR + 2 * POLL_SECONDS + 3
"""The period that had begun, those looked back on, then the judgement and its reading, and a busy machine."""
GOLDEN = "tandem-golden-ok"
PUBLIC, PRIVATE, EARS = "127.77.0.134", "127.77.0.135", "127.77.0.136"
PORT = 8080
NAME = "api.heard.test"
REGION = "us-east-1"


class Server(http.server.ThreadingHTTPServer):
    """A site that answers, or somebody who is told."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address) -> None:
        self.token, self.heard = GOLDEN, []
        super().__init__((address, PORT), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._say(self.server.token.encode())

    def do_POST(self) -> None:
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._say(b"")

    def _say(self, body) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


class Pulse:
    """A heartbeat that can be told what to say, and to say nothing."""

    def __init__(self, client) -> None:
        self.well, self._client, self._stopped = True, client, None
        self.begin()

    def begin(self) -> None:
        beat = Heartbeat(
            lambda: self.well,
            self._client,
            namespace="Tandem",
            metric="Golden",
            dimensions={"Environment": "lab", "Site": "private"},
            interval_seconds=10 / FACTOR,
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=beat.run, args=(self._stopped,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stopped.set()
        self._thread.join(30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("alarms")
    members = table(TOPOLOGY, checkers=4, clock_factor=FACTOR)
    control.up(home, Plan(TOPOLOGY, tuple(one for one in members if one.name in ("aws", "route53"))))
    yield home
    control.down(home)


@pytest.fixture(scope="module")
def servers():
    running = {address: Server(address) for address in (PUBLIC, EARS)}
    yield running
    for server in running.values():
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def client(lab):
    made = []

    def make(service):
        one = boto3.client(
            service,
            endpoint_url=TOPOLOGY.aws_url,
            region_name=REGION,
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=Config(retries={"total_max_attempts": 1}),
        )
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def pulse(client):
    beating = Pulse(client("cloudwatch"))
    yield beating
    beating.end()


@pytest.fixture(scope="module")
def declared(client, servers, pulse):
    """Ids of the checks: the public site is asked, the private one is heard."""
    route53, cloudwatch, sns = client("route53"), client("cloudwatch"), client("sns")
    topic = sns.create_topic(Name="oncall")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"http://{EARS}:{PORT}/")
    put_alarm(
        cloudwatch,
        "heard",
        topic,
        Namespace="Tandem",
        MetricName="Golden",
        Dimensions=[{"Name": "Site", "Value": "private"}, {"Name": "Environment", "Value": "lab"}],
        Statistic="Average",
        Threshold=0.5,
        TreatMissingData="breaching",
    )
    made = {
        "private": {
            "Type": "CLOUDWATCH_METRIC",
            "AlarmIdentifier": {"Region": REGION, "Name": "heard"},
            "InsufficientDataHealthStatus": "Unhealthy",
        },
        "public": {
            "Type": "HTTP_STR_MATCH",
            "IPAddress": PUBLIC,
            "Port": PORT,
            "SearchString": GOLDEN,
            "RequestInterval": 10,
            "FailureThreshold": 2,
        },
    }
    checks = {
        site: route53.create_health_check(CallerReference=site, HealthCheckConfig=config)["HealthCheck"]["Id"]
        for site, config in made.items()
    }
    put_alarm(
        cloudwatch,
        "public-ill",
        topic,
        Namespace="AWS/Route53",
        MetricName="HealthCheckStatus",
        Dimensions=[{"Name": "HealthCheckId", "Value": checks["public"]}],
        Statistic="Minimum",
        Threshold=1,
        TreatMissingData="missing",
    )
    zone = route53.create_hosted_zone(Name="heard.test", CallerReference="1")["HostedZone"]["Id"]
    changes = [
        {
            "Action": "CREATE",
            "ResourceRecordSet": {
                "Name": NAME,
                "Type": "A",
                "TTL": 5,
                "SetIdentifier": site,
                "Weight": 100,
                "HealthCheckId": checks[site],
                "ResourceRecords": [{"Value": address}],
            },
        }
        for site, address in (("private", PRIVATE), ("public", PUBLIC))
    ]
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    assert only(PRIVATE, PUBLIC)
    return checks


def put_alarm(cloudwatch, name, topic, **metric) -> None:
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        ComparisonOperator="LessThanThreshold",
        Period=60,
        EvaluationPeriods=1,
        AlarmActions=[topic],
        OKActions=[topic],
        **metric,
    )


def answered(count=20):
    question = dns.message.make_query(NAME, "A")
    answers = [dns.query.udp(question, TOPOLOGY.dns_host, port=TOPOLOGY.dns_port, timeout=30) for _ in range(count)]
    return collections.Counter(line.address for answer in answers for entry in answer.answer for line in entry)


def only(*addresses):
    return wait_until(lambda: set(answered()) == set(addresses), SILENCE_SECONDS + 5)


def told(servers, alarm, state):
    """Whether the subscriber heard that this alarm is in this state."""
    messages = [json.loads(post["Message"]) for post in servers[EARS].heard if "Message" in post]
    return any((one["AlarmName"], one["NewStateValue"]) == (alarm, state) for one in messages)


def status():
    with urllib.request.urlopen(f"{TOPOLOGY.prober_url}/status", timeout=30) as answer:  # noqa: S310  # the prober of this test
        return json.load(answer)["checks"]


def test_a_site_whose_heartbeat_stops_leaves_dns_and_comes_back_with_it(declared, pulse, servers, client) -> None:
    servers[EARS].heard.clear()
    pulse.end()
    began = time.monotonic()
    assert only(PUBLIC)
    took = time.monotonic() - began
    assert took > PERIOD_SECONDS * RANGE_EXTRA, "what was said a moment ago still counts"
    assert status()[declared["private"]]["alarm_state"] == "ALARM"
    seen = client("route53").get_health_check_status(HealthCheckId=declared["private"])["HealthCheckObservations"]
    assert {one["StatusReport"]["Status"] for one in seen} == {"Failure: alarm heard is ALARM"}, "drills read it so"
    assert wait_until(lambda: told(servers, "heard", "ALARM"), 30)
    pulse.begin()
    assert only(PRIVATE, PUBLIC)
    assert wait_until(lambda: told(servers, "heard", "OK"), 30)


def test_a_site_that_says_it_is_ill_leaves_sooner_than_one_that_says_nothing(declared, pulse) -> None:
    assert only(PRIVATE, PUBLIC)
    pulse.well = False
    began = time.monotonic()
    assert only(PUBLIC)
    assert time.monotonic() - began < SILENCE_SECONDS - PERIOD_SECONDS
    pulse.well = True
    assert only(PRIVATE, PUBLIC)


def test_the_status_of_a_check_is_a_metric_and_its_alarm_is_told(declared, servers, client) -> None:
    assert only(PRIVATE, PUBLIC)
    servers[EARS].heard.clear()
    servers[PUBLIC].token = "ill"
    try:
        assert only(PRIVATE)
        assert wait_until(lambda: told(servers, "public-ill", "ALARM"), 30)
    finally:
        servers[PUBLIC].token = GOLDEN
    assert wait_until(lambda: told(servers, "public-ill", "OK"), 30)


def test_heartbeats_are_no_declaration_they_go_on_while_writes_are_refused(declared, pulse) -> None:
    assert only(PRIVATE, PUBLIC)
    url = f"{TOPOLOGY.aws_url}/tandem/refuse-writes"
    for method, body in (("PUT", b'{"seconds": 60}'), ("DELETE", None)):
        request = urllib.request.Request(url, body, method=method)  # noqa: S310  # the API of this test
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
        if method == "PUT":
            time.sleep(SILENCE_SECONDS)
            assert set(answered()) == {PRIVATE, PUBLIC}
    with urllib.request.urlopen(f"{TOPOLOGY.aws_url}/tandem/requests?writes=true", timeout=30) as answer:  # noqa: S310
        assert "PutMetricData" not in {call["action"] for call in json.load(answer)["requests"]}
