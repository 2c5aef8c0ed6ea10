"""`dns-keepalive`: keeps its connection while it works, and asks DNS again only when it has to connect."""

from __future__ import annotations

import h11

from drills.clients.connection import Connection
from drills.clients.exchange import Exchange, Target, Way
from drills.resolver import CachedName


class KeepAliveClient:
    """A client as most HTTP libraries make them: one connection, used again until either side closes it.

    A server may close a kept connection at the moment a request is sent on it (RFC 9112, 9.3.1). If not one byte of
    an answer came, the request is sent once more on a new connection. RFC 9110, 9.2.2 allows that for a POST only when
    it is known to be idempotent: ours is a question that carries its whole history and changes nothing, so asking
    twice is asking once. Nothing else is asked again: not after a first byte, not on a new connection, and never after
    a timeout, which is the user's failure and drops the connection.

    A request that is due while the last one is unanswered opens a connection of its own, and one of the two is kept.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._name = CachedName(target.resolver, target.host)
        self._kept: Connection | None = None

    async def send(self, body: bytes, exchange: Exchange) -> None:
        """Ask on the connection that is kept, or resolve, connect and ask."""
        kept, self._kept = self._kept, None
        if kept is not None and kept.usable:
            exchange.address, exchange.way = kept.address, Way.REUSED
            try:
                await self._ask(kept, body, exchange)
            except (ConnectionError, h11.RemoteProtocolError):
                if kept.answering:
                    raise
                exchange.address, exchange.way = None, Way.RETRIED
            else:
                return
        exchange.address = await self._name.address()
        await self._ask(await Connection.open(self._target, exchange.address), body, exchange)

    def close(self) -> None:
        """Close the connection that is kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _ask(self, connection: Connection, body: bytes, exchange: Exchange) -> None:
        answered = False
        try:
            await connection.ask(body, exchange, last=False)
            answered = True
        finally:
            if answered and connection.usable and self._kept is None:
                self._kept = connection
            else:
                connection.close()
