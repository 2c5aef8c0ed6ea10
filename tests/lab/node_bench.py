"""What the tests of lost nodes share: a site whose nodes are missed soon, and the switches of its machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from kubelet_bench import Bench, Object, bench_site, processes_of, until

from lab.kubernetes.api.kinds import BARE_METAL_HOST, NODE, POD
from lab.kubernetes.condition import condition

GRACE_SECONDS = 1.2
UNREACHABLE = "node.kubernetes.io/unreachable"


@asynccontextmanager
async def lab_of(home: Path, nodes: int = 1, **machine: Any) -> AsyncIterator[Bench]:
    """A site with so many nodes that are ready; a silent one is missed after GRACE_SECONDS."""
    async with bench_site(home, nodes, node_grace_seconds=GRACE_SECONDS, **machine) as bench:
        await until(lambda: len(nodes_of(bench)) == nodes)
        yield bench


def nodes_of(bench: Bench) -> list[str]:
    return [str(each["metadata"]["name"]) for each in bench.store.list(NODE)]


def node_of(bench: Bench, pod: str) -> str:
    return str(bench.pod(pod)["spec"].get("nodeName") or "")


def switch(bench: Bench, node: str, *, on: bool) -> None:
    """As anybody may: by a patch of the host that the node names."""
    provider = bench.store.get(NODE, None, node)["spec"]["providerID"]
    namespace, host, _ = provider.removeprefix("metal3://").split("/")
    bench.store.patch(BARE_METAL_HOST, namespace, host, {"spec": {"online": on}}, "application/merge-patch+json")


async def off(bench: Bench, node: str) -> None:
    switch(bench, node, on=False)
    await until(lambda: powered(bench, node) is False, 30)


async def on(bench: Bench, node: str) -> None:
    switch(bench, node, on=True)
    await until(lambda: powered(bench, node) is True, 30)


def powered(bench: Bench, node: str) -> bool | None:
    hosts = bench.store.list(BARE_METAL_HOST)
    found = [each for each in hosts if each["spec"]["consumerRef"]["name"] == node]
    return (found[0].get("status") or {}).get("poweredOn") if found else None


def ready_of(bench: Bench, node: str) -> str:
    return str((condition(bench.store.get(NODE, None, node), "Ready") or {}).get("status"))


def taints_of(bench: Bench, node: str) -> list[Object]:
    return bench.store.get(NODE, None, node)["spec"].get("taints") or []


async def missed(bench: Bench, node: str) -> None:
    await until(lambda: ready_of(bench, node) == "Unknown" and taints_of(bench, node), GRACE_SECONDS + 3)


async def back(bench: Bench, node: str) -> None:
    await until(lambda: ready_of(bench, node) == "True" and not taints_of(bench, node), 30)


def processes(bench: Bench, pod: str) -> list[int]:
    """The processes of a pod, by what they carry."""
    marker = f"TANDEM_POD_UID={bench.pod(pod)['metadata']['uid']}".encode()
    found = []
    for pid in processes_of(bench.site.home):
        try:
            if marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return found


def states(pids: list[int]) -> set[str]:
    """How the processes are: one that stands still is `stopped`."""
    return {psutil.Process(pid).status() for pid in pids}


async def silent(reader: asyncio.StreamReader, seconds: float = 0.5) -> bool:
    """Whether nothing comes, neither data nor an end."""
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


def pods_of(bench: Bench, node: str) -> list[str]:
    return [each["metadata"]["name"] for each in bench.store.list(POD, field_selector=f"spec.nodeName={node}")]
