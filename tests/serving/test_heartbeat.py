"""A heartbeat says what a checker would see, goes on when nobody listens, and is alive while it goes round."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from serving.heartbeat import SILENT_ROUNDS, Heartbeat, golden, serve_liveness

ADDRESS = "127.83.0.210"
TOKEN = "tandem-golden-ok"


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.status, self.body, self.delay, self.heard = 200, TOKEN.encode(), 0.0, 0
        super().__init__((ADDRESS, 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/healthz"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        time.sleep(self.server.delay)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_POST(self) -> None:
        self.server.heard += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.shutdown()
    server.server_close()


class Metrics:
    """Remembers what it was told, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        self.failure = failure

    def put_metric_data(self, *, Namespace: str, MetricData: Any) -> None:  # noqa: N803 - the API's names
        self.told.append({"namespace": Namespace, **MetricData[0]})
        if self.failure is not None:
            raise self.failure


def heartbeat(metrics: Metrics, look: Any = lambda: True, clock: Any = time.monotonic) -> Heartbeat:
    return Heartbeat(
        look,
        metrics,
        namespace="Tandem",
        metric="Golden",
        dimensions={"Site": "private", "Environment": "lab"},
        interval_seconds=1.0,
        clock=clock,
    )


def test_a_good_answer_with_the_token_is_golden(site: Site) -> None:
    assert golden(site.url, TOKEN)


@pytest.mark.parametrize(
    "answer",
    [
        {"body": b"something else"},
        {"status": 503},
        {"body": b"x" * 5120 + TOKEN.encode()},
        {"delay": 1.0},
    ],
    ids=["no token", "not a good answer", "token too far behind", "too late"],
)
def test_any_other_answer_is_not(site: Site, answer: dict[str, Any]) -> None:
    for name, value in answer.items():
        setattr(site, name, value)
    assert not golden(site.url, TOKEN, deadline_seconds=0.3)


def test_an_endpoint_that_is_away_is_not_golden() -> None:
    assert not golden(f"http://{ADDRESS}:1/", TOKEN, deadline_seconds=0.3)


def test_it_says_one_or_zero_in_the_resolution_the_dns_service_takes() -> None:
    metrics, answers = Metrics(), iter([True, False])
    beat = heartbeat(metrics, lambda: next(answers))
    beat.beat()
    beat.beat()
    assert [(datum["Value"], datum["StorageResolution"]) for datum in metrics.told] == [(1.0, 60), (0.0, 60)]
    assert metrics.told[0]["Dimensions"] == [
        {"Name": "Environment", "Value": "lab"},
        {"Name": "Site", "Value": "private"},
    ]


@pytest.mark.parametrize(
    "failure",
    [
        ClientError({"Error": {"Code": "Throttling"}}, "PutMetricData"),
        EndpointConnectionError(endpoint_url="https://monitoring"),
        ConnectionResetError(),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_word_that_cannot_be_sent_is_dropped_and_the_pod_stays_alive(failure: Exception) -> None:
    metrics = Metrics(failure)
    beat = heartbeat(metrics)
    beat.beat()
    beat.beat()
    assert len(metrics.told) == 2
    assert beat.alive


def test_one_that_no_longer_goes_round_is_not_alive_and_says_so() -> None:
    now = [0.0]
    beat = heartbeat(Metrics(), clock=lambda: now[0])
    server = serve_liveness(beat, ADDRESS, 0)
    url = f"http://{ADDRESS}:{server.server_port}/livez"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # the server of this test
            assert answer.status == 200
        now[0] = SILENT_ROUNDS + 0.1
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            urllib.request.urlopen(url, timeout=30)
        refused.value.close()
    finally:
        server.shutdown()
        server.server_close()


def test_the_process_speaks_by_its_environment_and_ends_when_told(site: Site) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "POD_IP": "127.83.0.211",
        "PORT": "8081",
        "HEALTH_URL": site.url,
        "HEALTH_TOKEN": TOKEN,
        "INTERVAL_SECONDS": "0.2",
        "METRIC_NAMESPACE": "Tandem",
        "METRIC_NAME": "Golden",
        "DIMENSION_SITE": "private",
        "DIMENSION_ENVIRONMENT": "lab",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_ENDPOINT_URL_CLOUDWATCH": f"http://{ADDRESS}:{site.server_port}",
    }
    running = subprocess.Popen([sys.executable, "-m", "serving.heartbeat"], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while site.heard < 3 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    _, log = running.communicate(timeout=30)
    assert site.heard >= 3, log
    assert running.returncode == 0
    assert b"the site is golden" in log
