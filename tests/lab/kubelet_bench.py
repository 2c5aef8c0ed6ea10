"""What the tests of a site's Kubernetes share: small manifests, a site to run them, waiting with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from lab.kubernetes import images
from lab.kubernetes.api.kinds import DEPLOYMENT, EVENT, IP_ADDRESS_POOL, MACHINE_DEPLOYMENT, POD, Kind
from lab.kubernetes.site import Site
from lab.kubernetes.volumes import SHARED_MEMORY
from lab.topology import SiteAddresses, Topology

Object = dict[str, Any]

BLOCK = "127.79"
PYTHON = images.TABLE[images.SERVING].reference
TRITON = images.TABLE[images.TRITON].reference
PLUGIN = images.TABLE[images.DEVICE_PLUGIN].reference
CAPACITY = "capacity.cluster-autoscaler.kubernetes.io"

WEB = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == '/' or os.path.exists(os.environ['HOME'] + self.path)
        body = os.environ['NAME'].encode()
        self.send_response(200 if good else 503)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer((os.environ['IP'], 8080), Handler).serve_forever()
"""
"""Answers / with the pod's name; any other path with 200 only while a file of that name stands in the pod's folder."""


def field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def container(name: str = "main", *command: str, image: str = PYTHON, **more: Any) -> Object:
    return {"name": name, "image": image, "command": list(command or ("sleep", "1000")), **more}


def web(**more: Any) -> Object:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 3}
    return {
        "name": "web",
        "image": PYTHON,
        "command": ["python", "-c", WEB],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [field("IP", "status.podIP"), field("NAME", "metadata.name")],
        "startupProbe": {**probe, "failureThreshold": 60},
        "readinessProbe": probe,
        **more,
    }


def pod(name: str, *containers: Object, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    given = {"terminationGracePeriodSeconds": 5, "containers": list(containers or (container(),)), **spec}
    return {"metadata": {"name": name, "namespace": "default", "labels": labels or {}}, "spec": given}


def deployment(name: str, replicas: int, *containers: Object, strategy: Object | None = None, **spec: Any) -> Object:
    template = {"terminationGracePeriodSeconds": 5, "containers": list(containers or (container(),)), **spec}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            **({"strategy": strategy} if strategy else {}),
            "template": {"metadata": {"labels": {"app": name}}, "spec": template},
        },
    }


def service(name: str, port: int = 80, **more: Any) -> Object:
    metadata = {"name": name, "namespace": "default", "annotations": more.pop("annotations", {})}
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    return {"metadata": metadata, "spec": {"selector": {"app": name}, "ports": ports, **more}}


def machines(count: int, *, gpus: int = 0, taints: str = "", cpu: str = "8") -> Object:
    annotations = {f"{CAPACITY}/cpu": cpu, f"{CAPACITY}/memory": "32Gi", f"{CAPACITY}/gpu-count": str(gpus)}
    annotations |= {f"{CAPACITY}/taints": taints, f"{CAPACITY}/labels": "pool=bench"}
    labels = {"cluster.x-k8s.io/cluster-name": "bench"}
    return {
        "metadata": {"name": "bench", "namespace": "default", "annotations": annotations},
        "spec": {
            "clusterName": "bench",
            "replicas": count,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"clusterName": "bench", "bootstrap": {}, "infrastructureRef": {}},
            },
        },
    }


def address_pool() -> Object:
    return {"metadata": {"name": "edge", "namespace": "kube-system"}, "spec": {"addresses": [f"{BLOCK}.0.10/32"]}}


async def until(holds: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """The first true value of `holds`; AssertionError when there was none in time."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or holds}"
        await asyncio.sleep(0.02)
    return value


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """As `until`, for what has to be awaited."""
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


async def refuses(host: str, port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was closing just then
        return False
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return False


class Bench:
    """A site in this process, with what the tests ask of it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.store = site.store

    def pod(self, name: str) -> Object:
        return self.store.get(POD, "default", name)

    def pods(self, app: str) -> list[Object]:
        return self.store.list(POD, "default", f"app={app}")

    def status(self, name: str, index: int = 0, *, init: bool = False) -> Object:
        """One container's status; empty before the kubelet has written any."""
        field_name = "initContainerStatuses" if init else "containerStatuses"
        statuses = self.pod(name).get("status", {}).get(field_name) or []
        return statuses[index] if statuses else {"state": {}, "lastState": {}, "ready": False, "restartCount": 0}

    def ready(self, name: str) -> bool:
        conditions = self.pod(name).get("status", {}).get("conditions") or []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def gone(self, name: str) -> bool:
        return not any(each["metadata"]["name"] == name for each in self.store.list(POD, "default"))

    def settled(self, name: str) -> bool:
        """Whether a Deployment's status speaks of its present spec, and everything wanted is there and nothing else."""
        found = self.store.get(DEPLOYMENT, "default", name)
        status, wanted = found.get("status") or {}, found["spec"]["replicas"]
        counts = [status.get(key) or 0 for key in ("replicas", "updatedReplicas", "availableReplicas")]
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return current and counts == [wanted] * 3 and len(self.pods(name)) == wanted

    def events(self, reason: str) -> list[str]:
        return [each["message"] for each in self.store.list(EVENT) if each["reason"] == reason]

    def change(self, kind: Kind, name: str, alter: Callable[[Object], None]) -> Object:
        found = self.store.get(kind, "default", name)
        alter(found["spec"])
        return self.store.update(kind, found)

    def folder(self, name: str) -> Path:
        return self.site.folder / "pods" / str(self.pod(name)["metadata"]["uid"])

    def log(self, name: str, container_name: str | None = None, *, previous: bool = False) -> str:
        return self.site.kubelet.logs("default", name, container_name, previous, None).decode()


@asynccontextmanager
async def bench_site(
    home: Path, nodes: int = 1, *, node_grace_seconds: float = 20.0, **machine: Any
) -> AsyncIterator[Bench]:
    """A private site that runs in this process; afterwards nothing of its pods is left."""
    addresses = SiteAddresses(name="bench", kind="private", block=BLOCK)
    site = Site(addresses, home, back_off_seconds=0.3, node_grace_seconds=node_grace_seconds)
    await site.start()
    try:
        if nodes:
            site.store.create(MACHINE_DEPLOYMENT, machines(nodes, **machine))
        site.store.create(IP_ADDRESS_POOL, address_pool())
        yield Bench(site)
    finally:
        await site.stop()
    assert processes_of(home) == []
    assert not (site.folder / "pods").exists()


def leave_segment(name: str) -> None:
    """What a pod that was killed leaves in shared memory."""
    (SHARED_MEMORY / name).touch()


def segments(*beginnings: str) -> list[str]:
    """Shared-memory segments whose names begin so."""
    return [each.name for each in SHARED_MEMORY.iterdir() if each.name.startswith(beginnings)]


def processes_of(home: Path) -> list[int]:
    """Processes of pods of the lab at `home`."""
    marker = f"TANDEM_LAB_HOME={home}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            variables = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker in variables and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


class SiteProcess:
    """`python -m lab.kubernetes.site` as the lab starts it, asked over HTTP."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.addresses = SiteAddresses(name="bench", kind="private", block=BLOCK)
        self.log = home / "site.log"
        topology = Topology.in_blocks({"bench": ("private", BLOCK)}, shared_block=BLOCK)
        (home / "lab").mkdir(parents=True, exist_ok=True)
        (home / "lab" / "lab.json").write_text(json.dumps({"topology": topology.to_json()}))
        self.client = httpx.AsyncClient(base_url=self.addresses.api_url, timeout=30, trust_env=False)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lab.kubernetes.site", "--home", str(self.home), "--site", "bench"),
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout
        async with asyncio.timeout(30):
            line = await self.process.stdout.readline()
        assert line == b"ready\n", self.log.read_text()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def kill(self) -> None:
        assert self.process
        self.process.kill()
        async with asyncio.timeout(30):
            await self.process.wait()

    async def create(self, path: str, body: Object) -> None:
        answer = await self.client.post(path, json=body)
        assert answer.status_code == 201, answer.text

    async def get(self, path: str) -> Object:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        found: Object = answer.json()
        return found

    async def patch(self, path: str, body: Object) -> None:
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        answer = await self.client.patch(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text

    async def until(self, holds: Callable[[], Awaitable[Any]], seconds: float, what: str) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := await holds()):
            if time.monotonic() > deadline:
                pods = (await self.get("/api/v1/pods"))["items"]
                told = json.dumps([each.get("status") for each in pods], indent=1)
                raise AssertionError(f"not within {seconds} s: {what}\n{told}\n{self.log.read_text()[-4000:]}")
            await asyncio.sleep(0.1)
        return value


@asynccontextmanager
async def site_process(home: Path, nodes: int = 1, **machine: Any) -> AsyncIterator[SiteProcess]:
    site = SiteProcess(home)
    await site.start()
    try:
        await site.create(
            "/apis/cluster.x-k8s.io/v1beta1/namespaces/default/machinedeployments", machines(nodes, **machine)
        )
        yield site
    finally:
        await site.client.aclose()
        await site.stop()
