"""The proxy subresource of pods, through the official client and through a plain one."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes.client
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from lab.kubernetes.api import pod_proxy
from lab.kubernetes.api.kinds import POD
from lab.kubernetes.api.server import application, listen
from lab.kubernetes.api.store import Store

client: Any = kubernetes.client

HOST = "127.78.0.1"
POD_IP = "127.78.64.1"


@dataclass
class Cluster:
    """An API server, and a server that is the pod at POD_IP."""

    url: str
    store: Store
    port: int
    seen: list[dict[str, Any]] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def at(self, rest: str, *, pod: str = "web", port: int | None = None) -> str:
        return f"{self.url}/api/v1/namespaces/default/pods/{pod}:{port or self.port}/proxy{rest}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Tells what it was asked; /slow answers in two pieces, /cut stops in the middle, /silent says nothing."""
        body = await request.read()
        told = {"method": request.method, "path": request.raw_path, "body": body.decode()}
        self.seen.append(told | {"headers": dict(request.headers)})
        if request.path in ("/slow", "/cut", "/silent"):
            response = web.StreamResponse(headers={} if request.path == "/slow" else {"Content-Length": "1000"})
            if request.path != "/silent":
                await response.prepare(request)
                await response.write(b"first ")
            await self.go_on.wait()
            if request.path == "/slow":
                await response.write(b"second")
            elif request.transport:
                request.transport.abort()
            return response
        headers = {"X-Tandem-Site": "private", "Location": "/there"}
        return web.Response(status=303 if request.path == "/moved" else 418, text=json.dumps(told), headers=headers)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    store = Store()
    runner = await listen(application(store), HOST, 0)
    found = Cluster(f"http://{HOST}:{runner.addresses[0][1]}", store, 0)
    pod = web.Application()
    pod.router.add_route("*", "/{path:.*}", found.answer)
    pod_runner = web.AppRunner(pod, shutdown_timeout=1.0)
    await pod_runner.setup()
    await web.TCPSite(pod_runner, POD_IP, 0).start()
    found.port = pod_runner.addresses[0][1]
    add_pod(store, "web", POD_IP, found.port)
    yield found
    found.go_on.set()
    await pod_runner.cleanup()
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


def add_pod(store: Store, name: str, address: str, port: int = 0) -> None:
    container: dict[str, Any] = {"name": "main", "image": "registry.example/web:1"}
    if port:
        container["ports"] = [{"containerPort": port}]
    made = store.create(POD, {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container]}})
    if address:
        made["status"]["podIP"] = address
        store.update(POD, made, subresource="status")


def free_port() -> int:
    with socket.create_server((POD_IP, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def test_the_official_client_gets_the_answer_of_the_path_it_names(cluster: Cluster) -> None:
    configuration = client.Configuration(host=cluster.url)
    configuration.retries = False
    with client.ApiClient(configuration) as api:
        get = client.CoreV1Api(api).connect_get_namespaced_pod_proxy_with_path_with_http_info
        with pytest.raises(client.ApiException) as told:
            await asyncio.to_thread(get, f"web:{cluster.port}", "default", "a/b", _request_timeout=10)
        api.rest_client.pool_manager.clear()
    assert told.value.status == 418, "the pod's own status"
    assert json.loads(told.value.body or "")["path"] == "/a/b", "slashes come as %2F"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_method_path_query_body_and_headers_are_passed_on(
    cluster: Cluster, session: aiohttp.ClientSession, method: str
) -> None:
    url = URL(cluster.at("/v1/x%20y?a=1&b=%2F"), encoded=True)
    headers = {"X-Own": "1", "Authorization": "secret"}
    async with session.request(method, url, data=b"body" if method != "GET" else None, headers=headers) as answer:
        assert (answer.status, answer.headers["X-Tandem-Site"]) == (418, "private")
    (seen,) = cluster.seen
    assert (seen["method"], seen["path"]) == (method, "/v1/x%20y?a=1&b=%2F")
    assert seen["body"] == ("" if method == "GET" else "body")
    assert (seen["headers"]["X-Own"], "Authorization" in seen["headers"]) == ("1", False)


@pytest.mark.parametrize("named", ["web", "http:web:{port}", "http:web:"])
async def test_the_port_may_be_left_out_and_the_scheme_be_named(
    cluster: Cluster, session: aiohttp.ClientSession, named: str
) -> None:
    pod = named.format(port=cluster.port)
    async with session.get(f"{cluster.url}/api/v1/namespaces/default/pods/{pod}/proxy") as answer:
        assert (await answer.json(content_type=None))["path"] == "/"


async def test_a_pod_that_speaks_tls_is_asked_so_and_its_certificate_is_not_looked_at(
    cluster: Cluster, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*of_nobody(tmp_path))
    pod = web.Application()
    pod.router.add_route("*", "/{path:.*}", cluster.answer)
    runner = web.AppRunner(pod, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, POD_IP, 0, ssl_context=tls).start()
        port = runner.addresses[0][1]
        async with session.get(cluster.at("/metrics", pod="https:web", port=port)) as answer:
            assert (answer.status, (await answer.json(content_type=None))["path"]) == (418, "/metrics")
        async with session.get(cluster.at("/metrics", port=port)) as answer:
            assert answer.status in (400, 503), "plain http to such a pod is no answer of its own"
    finally:
        await runner.cleanup()


def of_nobody(folder: Path) -> tuple[Path, Path]:
    """A certificate that names nobody and its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now - timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


async def test_a_redirect_is_the_clients_to_follow(cluster: Cluster, session: aiohttp.ClientSession) -> None:
    async with session.get(cluster.at("/moved"), allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/there")


async def test_an_answer_is_streamed(cluster: Cluster, session: aiohttp.ClientSession) -> None:
    async with session.get(cluster.at("/slow")) as answer:
        assert await answer.content.readany() == b"first "
        cluster.go_on.set()
        assert await answer.content.read() == b"second"


async def test_an_answer_that_is_cut_short_does_not_look_whole(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    async with session.get(cluster.at("/cut")) as answer:
        assert await answer.content.readany() == b"first "
        cluster.go_on.set()
        with pytest.raises(aiohttp.ClientError):
            await answer.content.read()


async def test_a_pod_that_refuses_is_503(cluster: Cluster, session: aiohttp.ClientSession) -> None:
    async with session.get(cluster.at("/", port=free_port())) as answer:
        status = await answer.json()
    assert (answer.status, status["reason"], status["code"]) == (503, "ServiceUnavailable", 503)
    assert status["message"].startswith("error trying to reach service: ")


async def test_a_pod_that_says_nothing_in_time_is_503(
    cluster: Cluster, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_proxy, "DEADLINE_SECONDS", 0.3)
    async with session.get(cluster.at("/silent")) as answer:
        assert answer.status == 503
        assert "error trying to reach service" in (await answer.json())["message"]


@pytest.mark.parametrize(
    ("pod", "code", "message"),
    [
        ("absent", 404, 'pods "absent" not found'),
        ("new:80", 400, "address not allowed"),
        ("web:http", 400, "with the number of a port"),
        ("ftp:web:80", 400, "with the number of a port"),
        ("https:web:80:1", 400, "with the number of a port"),
        ("web:99999", 400, "with the number of a port"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    cluster: Cluster, session: aiohttp.ClientSession, pod: str, code: int, message: str
) -> None:
    add_pod(cluster.store, "new", "")
    async with session.get(f"{cluster.url}/api/v1/namespaces/default/pods/{pod}/proxy/") as answer:
        assert answer.status == code
        assert message in (await answer.json())["message"]


async def test_only_pods_are_proxied_and_discovery_says_so(cluster: Cluster, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{cluster.url}/api/v1/namespaces/default/services/web/proxy/x") as answer:
        assert answer.status == 404
    async with session.get(f"{cluster.url}/api/v1") as answer:
        listed = {each["name"]: each for each in (await answer.json())["resources"]}
    assert "get" in listed["pods/proxy"]["verbs"]
    assert "services/proxy" not in listed
