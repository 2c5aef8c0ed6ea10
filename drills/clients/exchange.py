"""What a client class is given, and what it fills in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from drills.resolver import Resolver

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Way(StrEnum):
    """How a request came to its connection."""

    NEW = "new"
    REUSED = "reused"
    RETRIED = "retried"
    """The connection kept from before was closed unanswered; asked once more on a new one."""


@dataclass(frozen=True)
class Target:
    """What one virtual user asks, and from where."""

    host: str
    port: int
    path: str
    authority: str
    """The Host header."""
    resolver: Resolver
    tls: ssl.SSLContext | None
    source: str = ""
    """Local address its connections are bound to; empty: whatever the system chooses."""

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
    way: Way = Way.NEW
    status: int | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def text(self, header: bytes) -> str | None:
        """A header's value; its name in lower case."""
        value = self.headers.get(header)
        return None if value is None else value.decode("latin-1")


class Client(Protocol):
    """One virtual user's way to the service; may be asked again before it has answered."""

    async def send(self, body: bytes, exchange: Exchange) -> None:
        """Fill in the exchange. Raises ResolutionError, OSError or h11.RemoteProtocolError."""
        ...

    def close(self) -> None:
        """Let go of what is kept between requests."""
        ...
