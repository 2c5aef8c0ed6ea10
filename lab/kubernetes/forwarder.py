"""TCP forwarding at layer 4: one listener, the backends that are ready, connections dealt out in turn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Sequence
from typing import Final, cast

from lab.topology import LOOPBACK, on_loopback

log = logging.getLogger(__name__)

Address = tuple[str, int]

CONNECT_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 1.0
BUFFER_BYTES: Final = 256 * 1024
"""What may wait for a slow reader before its writer is held back."""
BACKLOG: Final = 1024
_RESET: Final = struct.pack("ii", 1, 0)


class _Side(asyncio.Protocol):
    """One end of a forwarded connection; what it receives goes to its peer."""

    def __init__(self, peer: _Side | None = None) -> None:
        self.peer = peer
        self.transport: asyncio.Transport | None = None
        self.finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self.finished = True
        if self.peer is None or self.peer.transport is None or self.transport is None:
            return False
        if self.peer.finished:  # both have said all they had to say
            self.peer.transport.close()
            return False
        if not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        return True  # the other direction stays open

    def pause_writing(self) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer and self.peer.transport and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer and self.peer.transport:
            if error:
                reset(self.peer.transport)
            else:
                self.peer.transport.close()


class _Client(_Side):
    """The accepted end: reads nothing before its backend is there."""

    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__()
        self._forwarder = forwarder

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        accepted = cast("asyncio.Transport", transport)
        accepted.pause_reading()
        self._forwarder.accepted(self, accepted)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._forwarder.lost(self)


def reset(transport: asyncio.Transport) -> None:
    """Close with RST, so that the other end learns that this was no orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


class Forwarder:
    """Forwards one address to its backends; without a backend nothing listens, so clients are refused at once."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._backends: tuple[Address, ...] = ()
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._clients: set[_Client] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()

    @property
    def backends(self) -> tuple[Address, ...]:
        """Where new connections go."""
        return self._backends

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._clients)

    async def set_backends(self, backends: Sequence[Address]) -> None:
        """New connections go to these from now on; open ones stay where they are."""
        self._backends = tuple(backends)
        async with self._changing:
            if self._backends and self._server is None:
                await self._listen()
            elif not self._backends and self._server is not None:
                self._server.close()
                self._server = None

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        await self.set_backends(())
        for task in self._connecting:
            task.cancel()
        for client in list(self._clients):
            if client.transport:
                reset(client.transport)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self.address
        if not on_loopback(host):  # whatever a manifest asks for: nothing of the lab is reached from other machines
            log.error(
                "%s:%s lies outside %s and is not listened on; give the Service another one", host, port, LOOPBACK
            )
            return
        try:
            self._server = await loop.create_server(
                lambda: _Client(self), host, port, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            log.warning("cannot listen on %s:%s: %s; free the port or change the Service", host, port, error)
            loop.call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        if self._backends and self._server is None:
            task = asyncio.get_running_loop().create_task(self.set_backends(self._backends))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def accepted(self, client: _Client, transport: asyncio.Transport) -> None:
        """A connection has come in: find it a backend."""
        self._clients.add(client)
        task = asyncio.get_running_loop().create_task(self._connect(client, transport))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def lost(self, client: _Client) -> None:
        """A connection is over."""
        self._clients.discard(client)

    async def _connect(self, client: _Client, transport: asyncio.Transport) -> None:
        if not self._backends:
            reset(transport)
            return
        self._turn = (self._turn + 1) % len(self._backends)
        host, port = self._backends[self._turn]
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, protocol = await asyncio.get_running_loop().create_connection(lambda: _Side(client), host, port)
        except (OSError, TimeoutError) as error:
            # as in a cluster: a flow is pinned to the backend it was dealt, another one is not tried
            log.info("%s:%s: backend %s:%s: %s", *self.address, host, port, error or "no connection in time")
            reset(transport)
            return
        if transport.is_closing():
            if protocol.transport:
                protocol.transport.close()
            return
        client.peer = protocol
        transport.resume_reading()
