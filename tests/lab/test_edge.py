"""The edge of a site: what it listens on, where it forwards to, and how connections end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from kubelet_bench import (
    BLOCK,
    Bench,
    address_pool,
    bench_site,
    deployment,
    eventually,
    refuses,
    service,
    site_process,
    until,
    web,
)
from moto.server import ThreadedMotoServer

from lab.kubernetes.api.kinds import DEPLOYMENT, SERVICE, TARGET_GROUP_BINDING
from lab.kubernetes.forwarder import Forwarder
from lab.kubernetes.target_groups import TargetGroups
from lab.network import Edge
from lab.topology import SiteAddresses

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
FRONT = (f"{BLOCK}.0.20", 8080)


@contextlib.asynccontextmanager
async def backend(host: str, handle: Handler) -> AsyncIterator[tuple[str, int]]:
    handling: set[asyncio.Task[None]] = set()

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await handle(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.add(asyncio.create_task(closing(reader, writer)))

    server = await asyncio.start_server(accepted, host, 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        async with asyncio.timeout(30):
            await asyncio.gather(*handling)


@pytest.fixture
async def forwarder() -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(FRONT)
    yield forwarder
    await forwarder.close()


def saying(text: bytes) -> Handler:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return handle


async def ask(sent: bytes = b"") -> bytes:
    """What comes back for `sent`, after which this side has nothing more to say."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*FRONT)
        writer.write(sent)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


async def test_connections_are_dealt_out_in_turn(forwarder: Forwarder) -> None:
    async with backend(f"{BLOCK}.64.1", saying(b"one")) as one, backend(f"{BLOCK}.64.2", saying(b"two")) as two:
        await forwarder.set_backends([one, two])
        answers = [await ask() for _ in range(6)]
    assert answers in ([b"one", b"two"] * 3, [b"two", b"one"] * 3)


async def test_without_a_backend_the_address_refuses(forwarder: Forwarder) -> None:
    assert await refuses(*FRONT)
    async with backend(f"{BLOCK}.64.1", saying(b"one")) as one:
        await forwarder.set_backends([one])
        assert await ask() == b"one"
        await forwarder.set_backends([])
        assert await refuses(*FRONT)
        await forwarder.set_backends([one])
        assert await ask() == b"one"


async def test_nothing_is_listened_on_off_loopback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listening: list[str] = []

    class Listening:
        sockets = ()

        async def start_serving(self) -> None:
            pass

    async def create_server(_protocol: object, host: str, _port: int, **_more: object) -> Listening:
        listening.append(host)
        return Listening()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", create_server)
    for host in ("0.0.0.0", "192.0.2.1", "localhost", "127.79.0.20"):
        await Forwarder((host, 8080)).set_backends([(f"{BLOCK}.64.1", 8080)])
    assert listening == ["127.79.0.20"]
    assert "0.0.0.0:8080 lies outside 127.0.0.0/8" in caplog.text


async def test_half_a_close_is_passed_on_and_the_answer_still_comes(forwarder: Forwarder) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.read()  # ends only when the client's half-close arrives
        await asyncio.sleep(0.05)
        writer.write(f"{len(got)} bytes".encode())
        await writer.drain()

    async with backend(f"{BLOCK}.64.1", count) as one:
        await forwarder.set_backends([one])
        assert await ask(b"x" * 300_000) == b"300000 bytes"
        await until(lambda: forwarder.connections == 0, what="no connection stays open")


async def test_an_open_connection_outlives_its_backends_removal_from_the_list(forwarder: Forwarder) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)

    async with backend(f"{BLOCK}.64.1", echo) as one:
        await forwarder.set_backends([one])
        reader, writer = await asyncio.open_connection(*FRONT)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        await forwarder.set_backends([])
        writer.write(b"after")
        assert await reader.readexactly(5) == b"after"
        writer.close()


async def test_a_backend_that_refuses_resets_the_client(forwarder: Forwarder) -> None:
    async with backend(f"{BLOCK}.64.1", saying(b"")) as gone:
        pass
    await forwarder.set_backends([gone])
    with pytest.raises(ConnectionResetError):
        await ask(b"x")


async def test_a_slow_reader_holds_its_writer_back_and_memory_stays_bounded(forwarder: Forwarder) -> None:
    sent = 0

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(1000):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with backend(f"{BLOCK}.64.1", flood) as one:
        await forwarder.set_backends([one])
        reader, writer = await asyncio.open_connection(*FRONT, limit=65536)
        previous = -1
        while sent != previous:
            previous = sent
            await asyncio.sleep(0.2)
        assert sent < 40 * 1024 * 1024, "far from all of it is on its way while nobody reads"
        total = 0
        async with asyncio.timeout(30):
            while data := await reader.read(1 << 20):
                total += len(data)
        assert total == 1000 * 65536
        writer.close()


async def test_closing_resets_what_is_open(forwarder: Forwarder) -> None:
    async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with backend(f"{BLOCK}.64.1", wait) as one:
        await forwarder.set_backends([one])
        reader, writer = await asyncio.open_connection(*FRONT)
        writer.write(b"x")
        await until(lambda: forwarder.connections == 1)
        await forwarder.close()
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(30):
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def edge_of(bench: Bench, aws_url: str = "") -> AsyncIterator[Edge]:
    edge = Edge(bench.site.addresses, aws_url)
    task = asyncio.create_task(edge.run())
    try:
        yield edge
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def serves(host: str, port: int) -> bool:
    return not await refuses(host, port)


@pytest.mark.live
async def test_a_load_balancer_service_is_reached_at_the_edge_while_a_pod_is_ready(tmp_path: Path) -> None:
    async with bench_site(tmp_path) as bench, edge_of(bench):
        asked = {"metallb.io/loadBalancerIPs": f"{BLOCK}.0.10"}
        bench.store.create(SERVICE, service("d", 8080, type="LoadBalancer", annotations=asked))
        bench.store.create(DEPLOYMENT, deployment("d", 2, web(lifecycle={"preStop": {"sleep": {"seconds": 2}}})))
        assert await refuses(f"{BLOCK}.0.10", 8080), "no pod is ready"
        await until(lambda: bench.settled("d"), 30)
        await eventually(lambda: serves(f"{BLOCK}.0.10", 8080), 30, "the edge serves")
        bench.change(DEPLOYMENT, "d", lambda spec: spec.update(replicas=0))
        await eventually(lambda: refuses(f"{BLOCK}.0.10", 8080), 1, "refused at once, the pods still end")
        assert len(bench.pods("d")) == 2
        bench.change(DEPLOYMENT, "d", lambda spec: spec.update(replicas=1))
        await eventually(lambda: serves(f"{BLOCK}.0.10", 8080), 30, "the edge serves again")


@pytest.fixture
def aws_url() -> Iterator[str]:
    server = ThreadedMotoServer(f"{BLOCK}.0.30", 0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    yield url
    httpx.post(f"{url}/moto-api/reset", timeout=30, trust_env=False)  # its state is that of the process
    server.stop()


def bound_target_group(aws_url: str, address: str = f"{BLOCK}.0.10") -> str:
    def client(name: Any) -> Any:
        return boto3.client(
            name, region_name="eu-central-1", endpoint_url=aws_url, aws_access_key_id="lab", aws_secret_access_key="lab"
        )

    network = client("ec2")
    vpc = network.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = network.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    elb = client("elbv2")
    tags = [{"Key": "tandem.io/edge-address", "Value": address}]
    balancer = elb.create_load_balancer(Name="edge", Type="network", Subnets=[subnet], Tags=tags)["LoadBalancers"][0]
    group = elb.create_target_group(Name="gateway", Protocol="TCP", Port=8080, VpcId=vpc, TargetType="ip")[
        "TargetGroups"
    ][0]
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Protocol="TCP",
        Port=8090,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}],
    )
    return str(group["TargetGroupArn"])


@pytest.mark.live
async def test_a_target_group_binding_is_reached_through_its_listener(tmp_path: Path, aws_url: str) -> None:
    arn = await asyncio.to_thread(bound_target_group, aws_url)
    async with bench_site(tmp_path) as bench, edge_of(bench, aws_url):
        bench.store.create(SERVICE, service("d", 8080))
        bench.store.create(DEPLOYMENT, deployment("d", 1, web()))
        spec = {"targetGroupARN": arn, "targetType": "ip", "serviceRef": {"name": "d", "port": 8080}}
        bench.store.create(TARGET_GROUP_BINDING, {"metadata": {"name": "d", "namespace": "default"}, "spec": spec})
        await eventually(lambda: serves(f"{BLOCK}.0.10", 8090), 30, "the listener's port leads to the pod")
        bench.change(DEPLOYMENT, "d", lambda spec: spec.update(replicas=0))
        await eventually(lambda: refuses(f"{BLOCK}.0.10", 8090), 30, "no pod, no listener")


def test_a_load_balancers_address_is_one_of_the_site(aws_url: str) -> None:
    arn = bound_target_group(aws_url, "0.0.0.0")
    groups = TargetGroups(aws_url, SiteAddresses(name="bench", kind="public", block=BLOCK))
    assert groups.listeners([arn]) == {arn: []}


@pytest.mark.live
async def test_a_silent_api_changes_nothing_at_the_edge(tmp_path: Path) -> None:
    edge = Edge(SiteAddresses(name="bench", kind="private", block=BLOCK), "")
    task = asyncio.create_task(edge.run())
    try:
        async with bench_site(tmp_path) as bench:
            asked = {"metallb.io/loadBalancerIPs": f"{BLOCK}.0.10"}
            bench.store.create(SERVICE, service("d", 8080, type="LoadBalancer", annotations=asked))
            bench.store.create(DEPLOYMENT, deployment("d", 1, web()))
            await eventually(lambda: serves(f"{BLOCK}.0.10", 8080), 30, "found once the API is there")
            await bench.site.close_api()
            await asyncio.sleep(1.5)
            assert await serves(f"{BLOCK}.0.10", 8080)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.live
async def test_the_edge_process_says_ready_serves_and_ends_at_sigterm(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        edge = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lab.network", "--home", str(tmp_path), "--site", "bench"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert edge.stdout
        async with asyncio.timeout(30):
            assert await edge.stdout.readline() == b"ready\n"
        await site.create("/apis/metallb.io/v1beta1/namespaces/kube-system/ipaddresspools", address_pool())
        asked = {"metallb.io/loadBalancerIPs": f"{BLOCK}.0.10"}
        balanced = service("d", 8080, type="LoadBalancer", annotations=asked)
        await site.create("/api/v1/namespaces/default/services", balanced)
        await site.create("/apis/apps/v1/namespaces/default/deployments", deployment("d", 1, web()))
        await eventually(lambda: serves(f"{BLOCK}.0.10", 8080), 30, "the edge serves")
        edge.terminate()
        async with asyncio.timeout(30):
            assert await edge.wait() == 0
        assert await refuses(f"{BLOCK}.0.10", 8080)
