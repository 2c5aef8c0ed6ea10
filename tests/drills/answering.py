"""A DNS server and HTTP servers on loopback that answer what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dnslib import QTYPE, RR, A, DNSRecord  # type: ignore[import-untyped]  # ships no types
from dnslib.server import BaseResolver, DNSHandler, DNSServer  # type: ignore[import-untyped]  # ships no types

from drills.load import LoadResult, LoadSettings

FIRST, SECOND, SILENT, NAME_SERVER = "127.84.8.1", "127.84.8.2", "127.84.8.9", "127.84.8.53"
NAME = "recommend.tandem.test"


class Zone(BaseResolver):  # type: ignore[misc]  # dnslib ships no types
    """Answers every question with the present address; counts the questions."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.addresses = [FIRST]
        self.ttl = 1
        self.rcode = 0
        self.questions = 0
        self.turn = 0
        self.long = False

    def resolve(self, request: DNSRecord, handler: DNSHandler | None) -> DNSRecord:
        self.questions += 1
        reply = request.reply()
        reply.header.rcode = self.rcode
        if self.long:
            reply.header.tc = int(handler is not None and handler.protocol == "udp")
            for last in range(0 if reply.header.tc else 100):
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(f"127.84.9.{last + 1}"), ttl=5))
            return reply
        if self.addresses and not self.rcode:
            address = self.addresses[self.turn % len(self.addresses)]
            self.turn += 1
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=self.ttl))
        return reply


class Quiet:
    """A DNS log that says nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None


@contextlib.contextmanager
def name_serving(zone: Zone) -> Iterator[str]:
    """UDP and TCP on one port; host:port."""
    udp, tcp = _servers(zone)
    for server in (udp, tcp):
        server.start_thread()
    try:
        yield f"{NAME_SERVER}:{udp.server.server_address[1]}"
    finally:
        for server in (udp, tcp):
            server.stop()
            server.server.server_close()


def _servers(zone: Zone) -> tuple[DNSServer, DNSServer]:
    for _ in range(20):
        udp = DNSServer(zone, address=NAME_SERVER, port=0, logger=Quiet())
        try:
            tcp = DNSServer(zone, address=NAME_SERVER, port=udp.server.server_address[1], tcp=True, logger=Quiet())
        except OSError:
            udp.server.server_close()
        else:
            return udp, tcp
    raise AssertionError("no port that is free for UDP and TCP")


@dataclass
class Site:
    """An HTTP server that answers what the test says."""

    name: str
    status: int = 200
    delay_seconds: float = 0.0
    cut: bool = False
    """Whether answers end before their announced length."""
    keeps: bool = False
    """Whether a connection is kept for further requests."""
    farewell: bool = False
    """Whether answers carry `Connection: close` on a connection that would be kept."""
    unanswered: int = 0
    """So many of the next requests, other than a connection's first, are read and the connection closed."""
    stray: bytes = b""
    """Sent after each answer, unasked."""
    stray_after_seconds: float = 0.0
    body: Callable[[bytes], bytes] = lambda asked: asked
    connections: int = 0
    requests: int = 0
    peers: Counter[str] = field(default_factory=Counter)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.peers[writer.get_extra_info("peername")[0]] += 1
        self.writers.add(writer)
        try:
            first = True
            while await self._answer(reader, writer, first=first) and self.keeps:
                first = False
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bool) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        asked = await reader.readexactly(length)
        self.requests += 1
        if self.unanswered and not first:
            self.unanswered -= 1
            return False
        await asyncio.sleep(self.delay_seconds)
        body = self.body(asked)
        close = "Connection: close\r\n" if self.farewell else ""
        writer.write(
            f"HTTP/1.1 {self.status} Said\r\nX-Tandem-Site: {self.name}\r\nX-Tandem-Digest: sha256:{self.name}\r\n"
            f"{close}Content-Length: {len(body) + 10 * self.cut}\r\n\r\n".encode()
            + body
            + (b"" if self.stray_after_seconds else self.stray)
        )
        if self.stray_after_seconds:
            await asyncio.sleep(self.stray_after_seconds)
            writer.write(self.stray)
        await writer.drain()
        return not self.cut


@contextlib.asynccontextmanager
async def serving(site: Site, address: str, port: int = 0) -> AsyncIterator[int]:
    server = await asyncio.start_server(site.serve, address, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(site.writers):
            writer.close()
        await server.wait_closed()


def ask(turn: int) -> bytes:
    return json.dumps({"turn": turn}).encode()


def echo(asked: bytes, answer: bytes) -> str | None:
    return None if asked == answer else f"answered {answer!r}"


def settings(resolver: str, port: int, **changes: Any) -> LoadSettings:
    """A user asks every half a second, so that on a machine that is late none has two questions in flight."""
    values: dict[str, Any] = {
        "rate_per_second": 50.0,
        "users": 25,
        "request_timeout_seconds": 3.0,
        "host": NAME,
        "port": port,
        "path": "/v1/recommendations",
        "make_request": ask,
        "judge": echo,
        "resolver": resolver,
    }
    return LoadSettings(**{**values, **changes})


def outcomes(result: LoadResult) -> dict[str, int]:
    return dict(Counter(sample.outcome.value for sample in result.samples))


def ways(result: LoadResult) -> dict[str, int]:
    return dict(Counter(sample.way for sample in result.samples))
