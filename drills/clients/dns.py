"""`dns`: a fresh connection for each request; follows a changed record as soon as its own answer has expired."""

from __future__ import annotations

from drills.clients.connection import Connection
from drills.clients.exchange import Exchange, Target
from drills.resolver import CachedName


class DnsClient:
    """A plain DNS client: its own cached answer for the time to live, a fresh connection for each request."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._name = CachedName(target.resolver, target.host)

    async def send(self, body: bytes, exchange: Exchange) -> None:
        """Resolve, connect, ask once, close."""
        exchange.address = await self._name.address()
        connection = await Connection.open(self._target, exchange.address)
        try:
            await connection.ask(body, exchange, last=True)
        finally:
            connection.close()

    def close(self) -> None:
        """Nothing is kept."""
