"""How virtual users reach the service: one class each, chosen by its name in CLASSES."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import h11

from drills.resolver import CachedName, Resolver

READ_BYTES: Final = 65536
ANSWER_LIMIT_BYTES: Final = 4 * 1024 * 1024
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """What all users of a load ask."""

    host: str
    port: int
    path: str
    authority: str
    """The Host header."""
    resolver: Resolver
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, scheme: str, host: str, port: int, path: str, resolver: Resolver) -> Target:
        """With a Host header as browsers write it, and certificates checked."""
        authority = host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"
        tls = ssl.create_default_context() if scheme == "https" else None
        return cls(host, port, path, authority, resolver, tls)


@dataclass
class Exchange:
    """One request on its way: what is known of it so far, also when it fails."""

    address: str | None = None
    status: int | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def text(self, header: bytes) -> str | None:
        """A header's value; its name in lower case."""
        value = self.headers.get(header)
        return None if value is None else value.decode("latin-1")


class Client(Protocol):
    """One virtual user's way to the service."""

    async def send(self, body: bytes, exchange: Exchange) -> None:
        """Fill in the exchange. Raises ResolutionError, OSError or h11.RemoteProtocolError."""
        ...


class DnsClient:
    """A plain DNS client: its own cached answer for the time to live, a fresh connection for each request."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._name = CachedName(target.resolver, target.host)

    async def send(self, body: bytes, exchange: Exchange) -> None:
        """Resolve, connect, ask once, close."""
        target = self._target
        exchange.address = await self._name.address()
        reader, writer = await asyncio.open_connection(
            exchange.address, target.port, ssl=target.tls, server_hostname=target.host if target.tls else None
        )
        try:
            headers = [("Host", target.authority), ("Content-Type", "application/json"), ("Connection", "close")]
            await post(reader, writer, target.path, headers, body, exchange)
        finally:
            writer.close()


CLASSES: Final[dict[str, Callable[[Target], Client]]] = {"dns": DnsClient}


async def post(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    path: str,
    headers: list[tuple[str, str]],
    body: bytes,
    exchange: Exchange,
) -> None:
    """Send one request and read its answer to the end. Raises h11.RemoteProtocolError for one that is cut."""
    wire = h11.Connection(h11.CLIENT)
    head = h11.Request(method="POST", target=path, headers=[*headers, ("Content-Length", str(len(body)))])
    writer.write(b"".join(wire.send(event) or b"" for event in (head, h11.Data(data=body), h11.EndOfMessage())))
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            exchange.status, exchange.headers = event.status_code, dict(event.headers)
        elif isinstance(event, h11.Data):
            exchange.body += event.data
            if len(exchange.body) > ANSWER_LIMIT_BYTES:
                raise h11.RemoteProtocolError(f"an answer of more than {ANSWER_LIMIT_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return
