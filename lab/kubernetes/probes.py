"""The four ways a kubelet asks a container how it is: httpGet, tcpSocket, exec, grpc."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

EXEC_OUTPUT_BYTES: Final = 10 * 1024

Execute = Callable[[Sequence[str], float], Awaitable[tuple[int, str]]]
"""Runs argv in the container for at most some seconds: exit code and output; TimeoutError."""


@dataclass(frozen=True)
class Target:
    """The container a probe asks."""

    container: Mapping[str, Any]
    host: str
    execute: Execute
    session: aiohttp.ClientSession

    def port(self, port: int | str) -> int:
        """A port by number, or by the name the container declares; LookupError when it declares none of that name."""
        if isinstance(port, int) or str(port).isdigit():
            return int(port)
        for declared in self.container.get("ports") or []:
            if declared.get("name") == port:
                return int(declared["containerPort"])
        raise LookupError(f"couldn't find port: {port!r} in container {self.container['name']}")


@dataclass(frozen=True)
class Pace:
    """When a probe asks, and how many answers in a row count."""

    initial_delay_seconds: float
    period_seconds: float
    timeout_seconds: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Mapping[str, Any]) -> Pace:
        """With Kubernetes' defaults filled in."""
        return cls(
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
        )


async def answers(probe: Mapping[str, Any], target: Target) -> AsyncGenerator[str | None]:
    """What `ask` says, again and again: a period lies between the start of one question and that of the next."""
    pace, loop = Pace.of(probe), asyncio.get_running_loop()
    await asyncio.sleep(pace.initial_delay_seconds)
    while True:
        began = loop.time()
        yield await ask(probe, target)
        await asyncio.sleep(max(0.0, began + pace.period_seconds - loop.time()))


async def ask(probe: Mapping[str, Any], target: Target) -> str | None:
    """None for yes; for no, the reason in words."""
    seconds = Pace.of(probe).timeout_seconds
    try:
        if spec := probe.get("httpGet"):
            return await http_get(spec, target, seconds)
        if spec := probe.get("tcpSocket"):
            return await _tcp_socket(spec, target, seconds)
        if spec := probe.get("grpc"):
            return await _grpc(spec, target, seconds)
        if spec := probe.get("exec"):
            code, output = await target.execute(spec.get("command") or [], seconds)
            return None if code == 0 else f"command exited with {code}: {output.strip()}"
    except LookupError as error:
        return str(error.args[0])
    except TimeoutError:
        return f"command timed out: no answer within {seconds:g} s"
    return "the probe has none of httpGet, tcpSocket, grpc, exec; give it one"


async def http_get(spec: Mapping[str, Any], target: Target, seconds: float) -> str | None:
    """GET as a kubelet does it; 200 to 399 is yes."""
    host = spec.get("host") or target.host
    scheme = str(spec.get("scheme") or "HTTP").lower()
    url = f"{scheme}://{host}:{target.port(spec['port'])}/{str(spec.get('path') or '/').lstrip('/')}"
    headers = {"User-Agent": "kube-probe/1.34", "Accept": "*/*"}
    headers |= {header["name"]: header["value"] for header in spec.get("httpHeaders") or []}
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        # kubelets do not verify certificates either
        async with target.session.get(
            url, headers=headers, timeout=timeout, allow_redirects=False, ssl=False
        ) as answer:
            await answer.content.read(EXEC_OUTPUT_BYTES)
            return (
                None
                if 200 <= answer.status < 400
                else f"HTTP probe failed with statuscode: {answer.status} (GET {url})"
            )
    except TimeoutError:
        return f'Get "{url}": no answer within {seconds:g} s'
    except aiohttp.ClientConnectorError as error:
        return f'Get "{url}": {_cause(error.os_error)}'
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f'Get "{url}": {error or type(error).__name__}'


def _cause(error: OSError) -> str:
    """`Connection refused`; asyncio's own text repeats the address instead."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


async def _tcp_socket(spec: Mapping[str, Any], target: Target, seconds: float) -> str | None:
    host, port = spec.get("host") or target.host, target.port(spec["port"])
    try:
        async with asyncio.timeout(seconds):
            _reader, writer = await asyncio.open_connection(host, port)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except TimeoutError:
        return f"dial tcp {host}:{port}: no connection within {seconds:g} s"
    except OSError as error:
        return f"dial tcp {host}:{port}: {_cause(error)}"
    return None


async def _grpc(spec: Mapping[str, Any], target: Target, seconds: float) -> str | None:
    import grpc.aio  # heavy, and few manifests use it

    address = f"{target.host}:{target.port(spec['port'])}"
    service = str(spec.get("service") or "").encode()
    # grpc.health.v1: the request is field 1, the service; the answer is field 1, the status, 1 = SERVING
    request = bytes([0x0A, len(service)]) + service if service else b""
    async with grpc.aio.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", bytes, bytes)
        try:
            answer: bytes = await check(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return f"grpc {address}: {error.code().name}: {error.details()}"
    return None if answer == b"\x08\x01" else f"grpc {address}: service {service.decode()!r} is not SERVING"
