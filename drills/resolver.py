"""A plain stub resolver: asks one name server, keeps nothing, serves nothing stale.

Errors: ResolutionError
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from dataclasses import dataclass
from typing import Final

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver

from stacks.contract import TrafficOutputs

TIMEOUT_SECONDS: Final = 1.0
TRIES: Final = 2
DNS_PORT: Final = 53


class ResolutionError(Exception):
    """The name server gave no address: the message says what was asked, of whom, and what came back."""


@dataclass(frozen=True)
class Resolution:
    """IPv4 addresses of a name, and how long they may be kept."""

    addresses: tuple[str, ...]
    ttl_seconds: int


class Resolver:
    """Asks one name server: `host:port`, or the first of the system's when that is empty."""

    def __init__(self, server: str, *, timeout_seconds: float = TIMEOUT_SECONDS, tries: int = TRIES) -> None:
        self._host, self._port = _server(server)
        self._timeout_seconds = timeout_seconds
        self._tries = tries
        self._backend = dns.asyncbackend.get_backend("asyncio")  # loaded here: the first question must not wait for it

    async def resolve(self, name: str) -> Resolution:
        """Addresses over UDP, over TCP when the answer was cut; a lost try is repeated. Raises ResolutionError."""
        query = dns.message.make_query(name, dns.rdatatype.A)
        query.flags |= dns.flags.RD
        asked = f"{name} A of {self._host}:{self._port}"
        for remaining in reversed(range(self._tries)):
            try:
                answer, _ = await dns.asyncquery.udp_with_fallback(
                    query, self._host, timeout=self._timeout_seconds, port=self._port, backend=self._backend
                )
            except (dns.exception.DNSException, OSError) as error:
                if not remaining:
                    raise ResolutionError(f"{asked}: {type(error).__name__} {error} in {self._tries} tries") from error
            else:
                return _read(answer, asked)
        raise ResolutionError(f"{asked}: not asked, {self._tries} tries allowed; allow at least 1")


class NameServers:
    """Where fresh answers come from: the declared name server, or else the zone's own, which keep nothing.

    A resolver that caches gives one draw again and again for its time to live.
    """

    def __init__(self, traffic: TrafficOutputs) -> None:
        self._traffic = traffic
        self._asked: list[Resolver] = []

    async def draw(self, name: str, times: int) -> list[Resolution | ResolutionError]:
        """So many answers asked for at once, the servers taking turns; one that is silent is made up for by the next.

        Raises ResolutionError when there is no server to ask.
        """
        if not self._asked:
            servers = [self._traffic.resolver] if self._traffic.resolver else await _authoritative(self._traffic)
            self._asked = [Resolver(server) for server in servers]
        return await asyncio.gather(*(self._one(name, turn) for turn in range(times)))

    async def _one(self, name: str, turn: int) -> Resolution | ResolutionError:
        said: list[ResolutionError] = []
        for step in range(len(self._asked)):
            try:
                return await self._asked[(turn + step) % len(self._asked)].resolve(name)
            except ResolutionError as error:
                said.append(error)
        return ResolutionError("; ".join(map(str, said)))


_addresses_of: Final[dict[str, str]] = {}
"""Name servers' addresses, asked of the system once."""


async def _authoritative(traffic: TrafficOutputs) -> list[str]:
    """host:port of the zone's name servers that the system knows. Raises ResolutionError when it knows none."""
    unknown = []
    for name in traffic.name_servers:
        if name in _addresses_of:
            continue
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                name.rstrip("."), DNS_PORT, family=socket.AF_INET, type=socket.SOCK_DGRAM
            )
        except OSError as error:
            unknown.append(f"{name}: {error}")
        else:
            _addresses_of[name] = str(found[0][4][0])
    known = [f"{_addresses_of[name]}:{DNS_PORT}" for name in traffic.name_servers if name in _addresses_of]
    if not known:
        raise ResolutionError(
            f"no name server of {traffic.zone_name} can be found ({'; '.join(unknown) or 'none is exported'});"
            " repair the system's resolver, or set `resolver` of the traffic stack"
        )
    return known


class CachedName:
    """One client's view of a name: an answer is used until its time to live ends, then asked for again."""

    def __init__(self, resolver: Resolver, name: str) -> None:
        self._resolver = resolver
        self._name = name
        self._address = ""
        self._expires = 0.0

    async def address(self) -> str:
        """The address to connect to. Raises ResolutionError; an answer that has expired is never used again."""
        if time.monotonic() >= self._expires:
            found = await self._resolver.resolve(self._name)
            self._address = found.addresses[0]
            self._expires = time.monotonic() + found.ttl_seconds
        return self._address


def _read(answer: dns.message.Message, asked: str) -> Resolution:
    if answer.rcode() != dns.rcode.NOERROR:
        raise ResolutionError(f"{asked}: {dns.rcode.to_text(answer.rcode())}")
    addresses = tuple(record.address for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A for record in rrset)
    if not addresses:
        raise ResolutionError(f"{asked}: no address in the answer")
    return Resolution(addresses, min(rrset.ttl for rrset in answer.answer))


def _server(server: str) -> tuple[str, int]:
    if not server:
        return str(dns.resolver.Resolver().nameservers[0]), DNS_PORT
    host, _, port = server.rpartition(":")
    try:
        ipaddress.ip_address(host)
        return host, int(port)
    except ValueError:
        raise ResolutionError(f"resolver {server!r} is no address:port, for example 127.0.0.1:53") from None
