"""Two sites in small: gateways behind a Kubernetes API, stores, and a name server that goes by marks and health."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from signals import marks
from stacks.contract import Deployment, PlatformOutputs, PoolOutputs, ServingOutputs
from tests.declared import filled
from tests.signals import signal_stage

DIGEST = f"sha256:{'a' * 64}"
SITES = ("private", "public")
HOSTS = {"private": "127.85.0.11", "public": "127.85.0.12"}
PORT = 18080
DETECTION_SECONDS = 0.4
"""From a mark to DNS in this small world."""


@dataclass
class Site:
    """One site's edge, gateways and API; what it says is a test's to decide."""

    name: str
    rate: float = 20.0
    """Requests per second while DNS leads here."""
    latency: float = 0.02
    open: int = 3
    """Connections of users while DNS leads here."""
    lingering: int = 0
    """Connections nobody closes."""
    well: bool = True
    reachable: bool = True
    """Its Kubernetes API."""
    shedding: bool = False
    requests: float = 0.0
    shed: float = 0.0
    led: bool = True
    seen: float = field(default_factory=time.monotonic)
    posts: list[str] = field(default_factory=list)
    """Everything but reads that reached its API: nothing may."""

    def count(self) -> None:
        now = time.monotonic()
        if self.led:
            self.requests += self.rate * (now - self.seen)
            self.shed += self.shedding
        self.seen = now

    def metrics(self) -> str:
        self.count()
        label = f'{{site="{self.name}",surface="feed"}}'
        connections = (self.open if self.led else 0) + self.lingering
        return (
            "# TYPE tandem_requests_total counter\n"
            f'tandem_requests_total{{site="{self.name}",surface="feed",code="200"}} {self.requests:.0f}\n'
            f"tandem_shed_total {self.shed}\n"
            f"tandem_request_duration_seconds_sum{label} {self.requests * self.latency}\n"
            f"tandem_request_duration_seconds_count{label} {self.requests:.0f}\n"
            f'tandem_request_duration_seconds_bucket{{site="{self.name}",le="0.1"}} {self.requests:.0f}\n'
            f"tandem_connections {connections}\n"
        )

    def answer(self, path: str) -> tuple[int, str]:
        if path == "/healthz":
            status = "tandem-golden-ok" if self.well else "ill"
            return (200 if self.well else 503), json.dumps({"status": status, "digest": DIGEST})
        if not self.reachable:
            return 503, "{}"
        if path.startswith("/api/v1/namespaces/tandem/pods?"):
            return 200, json.dumps(
                {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [_pod("gateway-0")]}
            )
        if path == f"/api/v1/namespaces/tandem/pods/gateway-0:{PORT}/proxy/metrics":
            return 200, self.metrics()
        if path.startswith("/apis/apps/v1/namespaces/tandem/deployments/"):
            return 200, json.dumps(_deployment(ready=1 if self.well else 0))
        return 404, "{}"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = site.answer(unquote(self.path))
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if text.startswith("{") else "text/plain")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_POST(self) -> None:
                site.posts.append(self.path)
                self.send_response(405)
                self.end_headers()

            do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815  the names http.server calls

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def _deployment(*, ready: int) -> dict[str, object]:
    labels = {"app.kubernetes.io/name": "gateway"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "gateway"}]}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "gateway"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
        "status": {"readyReplicas": ready},
    }


def _pod(name: str) -> dict[str, object]:
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "gateway", "ports": [{"containerPort": PORT}]}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {
                    "name": "gateway",
                    "image": "",
                    "imageID": "",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                }
            ],
        },
    }


@dataclass
class World:
    """The stage and what is deployed on it."""

    stores: signal_stage.Stores
    sites: dict[str, Site]
    deployment: Deployment
    deaf: bool = False
    """The name server goes by health alone."""
    end: threading.Event = field(default_factory=threading.Event)

    def judge(self) -> None:
        """Go by marks as the DNS service does: late."""
        while not self.end.wait(DETECTION_SECONDS / 2):
            for name, site in self.sites.items():
                marked = marks.counting(marks.read(self.deployment, name)) and not self.deaf
                site.count()
                site.led = site.well and not marked

    def with_sites(self, **changes: object) -> Deployment:
        """The deployment with something changed at every site's endpoint."""
        traffic = self.deployment.traffic
        sites = {name: replace(each, **changes) for name, each in traffic.sites.items()}
        return replace(self.deployment, traffic=replace(traffic, sites=sites))


@contextlib.contextmanager
def running() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        stores = stack.enter_context(signal_stage.running())
        sites = {name: Site(name) for name in SITES}
        for site in sites.values():
            stack.enter_context(_served(site))
        resolver = stack.enter_context(_name_server(sites))
        world = World(stores, sites, _deployed(stores, resolver))
        judge = threading.Thread(target=world.judge)
        judge.start()
        try:
            yield world
        finally:
            world.end.set()
            judge.join(30)


@contextlib.contextmanager
def _served(site: Site) -> Iterator[None]:
    server = ThreadingHTTPServer((HOSTS[site.name], PORT), site.handler())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


@contextlib.contextmanager
def _name_server(sites: dict[str, Site]) -> Iterator[str]:
    class Answers(BaseResolver):
        turns = itertools.count()

        def resolve(self, request: DNSRecord, _: object) -> DNSRecord:
            reply = request.reply()
            led = [name for name, site in sites.items() if site.led]
            if led:
                address = HOSTS[led[next(self.turns) % len(led)]]
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=1))
            return reply

    server = DNSServer(Answers(), address="127.85.0.1", port=0, logger=DNSLogger("-request,-reply"))
    server.start_thread()
    try:
        yield f"127.85.0.1:{server.server.server_address[1]}"
    finally:
        server.stop()
        server.thread.join(30)
        server.server.server_close()


def _deployed(stores: signal_stage.Stores, resolver: str) -> Deployment:
    declared = signal_stage.traffic(resolver=resolver)
    sites = {
        name: replace(
            declared.sites[name], address=HOSTS[name], port=PORT, drain_stores=[each for each in SITES if each != name]
        )
        for name in SITES
    }
    storage = {name: outputs for name, outputs in stores.outputs().items() if name in SITES}
    return Deployment(
        env="lab",
        storage=storage,
        pool={name: _pool(name) for name in SITES},
        platform={name: _platform(name) for name in SITES},
        serving={name: _serving(name) for name in SITES},
        traffic=replace(declared, sites=sites),
    )


def _pool(site: str) -> PoolOutputs:
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": site, "cluster": {"server": f"http://{HOSTS[site]}:{PORT}"}}],
        "users": [{"name": site, "user": {}}],
        "contexts": [{"name": site, "context": {"cluster": site, "user": site}}],
        "current-context": site,
    }
    return filled(PoolOutputs,
        site=site, kind="private", cluster_name=site, kubeconfig=json.dumps(kubeconfig), edge_address=HOSTS[site],
        edge_dns_name="", edge_zone_id="", edge_target_group_arn="", node_grace_seconds=20, machine_namespace="",
    )  # fmt: skip


def _platform(site: str) -> PlatformOutputs:
    return filled(PlatformOutputs,
        site=site, namespace="tandem", priority_class="serving", gpu_resource="nvidia.com/gpu", environment="lab",
        lease_account="undo", lease_image="",
    )  # fmt: skip


def _serving(site: str) -> ServingOutputs:
    return filled(ServingOutputs,
        site=site, namespace="tandem", triton_deployment="triton", triton_replicas=1, gateway_deployment="gateway",
        gateway_replicas=1, model_name="recommender", model_digest=DIGEST, accepted_digests=[DIGEST],
        gateway_policy="gateway", concurrency_limit=8, golden_interval_seconds=2, hold_down_seconds=1,
    )  # fmt: skip
