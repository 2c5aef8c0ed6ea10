"""What the tests of links share: pods that are plain servers, a cluster without kubelet, callers that carry a uid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from kubelet_bench import until

from lab.kubernetes.api.kinds import (
    HTTP_CHAOS,
    IP_ADDRESS_POOL,
    NAMESPACE,
    NETWORK_CHAOS,
    NETWORK_POLICY,
    POD,
    SERVICE,
)
from lab.kubernetes.api.server import application, listen
from lab.kubernetes.api.store import Store
from lab.kubernetes.chaos import HttpChaosController, NetworkChaosController
from lab.kubernetes.condition import condition, set_condition
from lab.kubernetes.endpoints import EndpointsController
from lab.kubernetes.proxy import ServiceProxy
from lab.kubernetes.run import POD_UID
from lab.kubernetes.services import LoadBalancerController
from lab.network import Edge
from lab.topology import SiteAddresses

Object = dict[str, Any]

BLOCK = "127.80"
EDGE = (f"{BLOCK}.0.10", 8080)
USERS, CUT_USERS = f"{BLOCK}.200.8", f"{BLOCK}.200.16"
"""An address users come from, and one inside of 127.80.200.16/29."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def echo_server(address: tuple[str, int]) -> AsyncIterator[None]:
    handling: set[asyncio.Task[None]] = set()
    server = await asyncio.start_server(
        lambda reader, writer: handling.add(asyncio.create_task(echo(reader, writer))), *address
    )
    try:
        yield
    finally:
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)


class Conversation:
    """A connection whose words come back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, words: bytes) -> None:
        self.writer.write(words)

    async def hears(self, words: bytes, seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            assert await self.reader.readexactly(len(words)) == words

    async def silent(self, seconds: float = 0.4) -> bool:
        """Whether neither word nor end comes for so long."""
        try:
            async with asyncio.timeout(seconds):
                return not await self.reader.read(1) and False
        except TimeoutError:
            return True

    async def exchange(self, words: bytes) -> float:
        """Seconds until they came back."""
        start = asyncio.get_running_loop().time()
        self.say(words)
        await self.hears(words)
        return asyncio.get_running_loop().time() - start


@contextlib.asynccontextmanager
async def conversation(to: tuple[str, int] = EDGE, source: str = USERS) -> AsyncIterator[Conversation]:
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*to, local_addr=(source, 0))
    try:
        yield Conversation(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(2):
                await writer.wait_closed()


async def connecting(to: tuple[str, int] = EDGE, source: str = USERS, seconds: float = 0.7) -> str:
    """How it goes: open, refused, or nothing after so long, no handshake and no refusal."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.bind((source, 0))
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_connect(client, to)
        except TimeoutError:
            return "nothing"
        except ConnectionRefusedError:
            return "refused"
        return "open"


async def times_out(to: tuple[str, int] = EDGE, source: str = USERS, seconds: float = 0.7) -> bool:
    return await connecting(to, source, seconds) == "nothing"


class Cluster:
    """API, Services, proxies and edge of a site on the tests' block; its pods are objects that a test makes up."""

    def __init__(self, store: Store, silence_api: Callable[[], Awaitable[None]]) -> None:
        self.store = store
        self.silence_api = silence_api

    def pod(self, name: str, address: str, *, app: str = "gateway", namespace: str = "shop") -> Object:
        ports = [{"name": "http", "containerPort": 8080}]
        metadata = {"name": name, "namespace": namespace, "labels": {"app": app}}
        spec = {"nodeName": "n", "containers": [{"name": "main", "image": "i", "ports": ports}]}
        made = self.store.create(POD, {"metadata": metadata, "spec": spec})
        made["status"] |= {"podIP": address, "phase": "Running"}
        set_condition(made["status"], "Ready", True)
        return self.store.update(POD, made, subresource="status")

    def service(self, app: str, *, at_edge: bool = False) -> str:
        """Its ClusterIP."""
        annotations = {"metallb.io/loadBalancerIPs": EDGE[0]} if at_edge else {}
        spec = {"selector": {"app": app}, "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]}
        if at_edge:
            spec["type"] = "LoadBalancer"
        metadata = {"name": app, "namespace": "shop", "annotations": annotations}
        return str(self.store.create(SERVICE, {"metadata": metadata, "spec": spec})["spec"]["clusterIP"])

    def policy(self, *ingress: Object, app: str = "gateway") -> None:
        """Make it, or change the one there is."""
        spec = {
            "podSelector": {"matchLabels": {"app": app}},
            "policyTypes": ["Ingress"],
            "ingress": list(ingress),
        }
        present = [each for each in self.store.list(NETWORK_POLICY, "shop") if each["metadata"]["name"] == app]
        if present:
            self.store.update(NETWORK_POLICY, {**present[0], "spec": spec})
        else:
            self.store.create(NETWORK_POLICY, {"metadata": {"name": app, "namespace": "shop"}, "spec": spec})

    def chaos(self, name: str, *, app: str = "gateway", **spec: Any) -> None:
        kind = HTTP_CHAOS if "abort" in spec else NETWORK_CHAOS
        selector = {"namespaces": ["shop"], "labelSelectors": {"app": app}}
        metadata = {"name": name, "namespace": "shop"}
        self.store.create(kind, {"metadata": metadata, "spec": {"mode": "all", "selector": selector, **spec}})

    async def injected(self, name: str, *, http: bool = False) -> None:
        kind = HTTP_CHAOS if http else NETWORK_CHAOS
        await self.until_condition(kind, name, "AllInjected")

    async def until_condition(self, kind: Any, name: str, wanted: str, seconds: float = 5) -> None:
        def met() -> bool:
            found = condition(self.store.get(kind, "shop", name), wanted)
            return found is not None and found["status"] == "True"

        await until(met, seconds, f"{name} is {wanted}")


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    addresses = SiteAddresses(name="bench", kind="private", block=BLOCK)
    store = Store(cluster_ips=addresses.cluster_ips(), service_network=addresses.service_network)
    runner = await listen(application(store), addresses.api_host, addresses.api_port)
    controllers = (EndpointsController, LoadBalancerController, NetworkChaosController, HttpChaosController)
    work = [kind(store).run() for kind in controllers]
    tasks = [asyncio.create_task(each) for each in (*work, ServiceProxy(store).run(), Edge(addresses, "").run())]
    store.create(NAMESPACE, {"metadata": {"name": "shop", "labels": {"team": "a"}}})
    pool = {"metadata": {"name": "edge", "namespace": "shop"}, "spec": {"addresses": [f"{EDGE[0]}/32"]}}
    store.create(IP_ADDRESS_POOL, pool)
    try:
        yield Cluster(store, runner.cleanup)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()
    assert [each for each in ended if not isinstance(each, asyncio.CancelledError)] == []


def listening() -> list[str]:
    """Addresses of the tests' block that something listens on."""
    block = "".join(f"{int(part):02X}" for part in reversed(BLOCK.split(".")))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[1].split(":")[0].endswith(block)]


CALLER = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
connection = socket.create_connection((host, port))
print('open', flush=True)
for line in sys.stdin:
    connection.sendall(line.encode())
    print(connection.recv(100).decode().strip() or 'END', flush=True)
"""
DUAL_STACK = CALLER.replace(
    "socket.create_connection((host, port))",
    "socket.socket(socket.AF_INET6); connection.connect(('::ffff:' + host, port))",
)


class Caller:
    """A process of a pod that has opened a connection; every word it is given it sends, and reads one back."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def say(self, word: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n".encode())

    async def hears(self, seconds: float = 30.0) -> str:
        """The next word; empty when none comes in time."""
        assert self._process.stdout
        try:
            async with asyncio.timeout(seconds):
                return (await self._process.stdout.readline()).decode().strip()
        except TimeoutError:
            return ""


@contextlib.asynccontextmanager
async def caller(pod_uid: str, to: tuple[str, int], program: str = CALLER) -> AsyncIterator[Caller]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, to[0], str(to[1])),
        env={**os.environ, POD_UID: pod_uid},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        opened = Caller(process)
        assert await opened.hears() == "open"
        yield opened
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(30):
            await process.communicate()
