"""Tells CloudWatch at a fixed pace whether this site is golden: a pod of its own, where no health checker gets in.

It looks as a checker does, at the token in a good answer, and says 1 or 0. When it cannot say it, it says nothing, and
the alarm on its metric takes silence for illness.
"""

from __future__ import annotations

import http.server
import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

LOOK_SECONDS: Final = 3.0
READ_BYTES: Final = 5120
"""So much of a body is searched, as much as the DNS service's checkers read of it."""
SILENT_ROUNDS: Final = 4
"""Rounds that may be missing until the pod counts as stuck."""
STANDARD_RESOLUTION: Final = 60
"""Several values a minute, and alarms on them count: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html."""

log = logging.getLogger(__name__)


def golden(url: str, token: str, deadline_seconds: float = LOOK_SECONDS) -> bool:
    """Whether a good answer with the token comes in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=deadline_seconds) as answer:
            found: bool = token.encode() in answer.read(READ_BYTES)
    except (OSError, ValueError, urllib.error.URLError) as error:
        log.debug("no golden answer: %r", error)
        return False
    return found


class Metrics(Protocol):
    """As much of a CloudWatch client as is needed."""

    def put_metric_data(self, *, Namespace: str, MetricData: Any) -> Any: ...  # noqa: N803 - the API's names


class Heartbeat:
    """Looks and speaks; `alive` tells whether it got around to it lately, whatever the answer was."""

    def __init__(
        self,
        look: Callable[[], bool],
        client: Metrics,
        *,
        namespace: str,
        metric: str,
        dimensions: Mapping[str, str],
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._client, self._clock = look, client, clock
        self._namespace, self._metric, self._interval_seconds = namespace, metric, interval_seconds
        self._dimensions = [{"Name": name, "Value": value} for name, value in sorted(dimensions.items())]
        self._last = clock()
        self._said: bool | None = None

    @property
    def alive(self) -> bool:
        """Whether the last round is recent; what CloudWatch made of it does not matter, a restart mends no network."""
        return self._clock() - self._last <= SILENT_ROUNDS * self._interval_seconds

    def beat(self) -> None:
        """One look, and word of it; what cannot be sent is dropped, a late word would be about another time."""
        well = self._look()
        datum: Any = {
            "MetricName": self._metric,
            "Dimensions": self._dimensions,
            "Value": 1.0 if well else 0.0,
            "StorageResolution": STANDARD_RESOLUTION,
        }
        try:
            self._client.put_metric_data(Namespace=self._namespace, MetricData=[datum])
        except (BotoCoreError, ClientError, OSError) as error:
            log.warning("no word to CloudWatch: %s", error)
        if well != self._said:
            log.warning("the site is %s", "golden" if well else "not golden")
            self._said = well
        self._last = self._clock()

    def run(self, stopped: threading.Event) -> None:
        """Beat until `stopped`."""
        due = self._clock()
        while not stopped.is_set():
            self.beat()
            due = max(due + self._interval_seconds, self._clock())
            stopped.wait(due - self._clock())


def serve_liveness(heartbeat: Heartbeat, address: str, port: int) -> http.server.ThreadingHTTPServer:
    """What the kubelet asks, in a thread of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if heartbeat.alive else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """The kubelet asks often, and nobody wants to read that."""

    server = http.server.ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="liveness", daemon=True).start()
    return server


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Beat until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    url, token = environment["HEALTH_URL"], environment["HEALTH_TOKEN"]
    session: Any = boto3.session.Session()  # the stubs installed know a few services only
    client: Metrics = session.client(
        "cloudwatch",
        config=Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1}),
    )
    heartbeat = Heartbeat(
        lambda: golden(url, token),
        client,
        namespace=environment["METRIC_NAMESPACE"],
        metric=environment["METRIC_NAME"],
        dimensions={
            key.removeprefix("DIMENSION_").capitalize(): value
            for key, value in environment.items()
            if key.startswith("DIMENSION_")
        },
        interval_seconds=float(environment["INTERVAL_SECONDS"]),
    )
    server = serve_liveness(heartbeat, environment["POD_IP"], int(environment["PORT"]))
    try:
        heartbeat.run(stopped)
    finally:
        server.shutdown()
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
