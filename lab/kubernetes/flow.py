"""One forwarded connection: a client's end, a pod's end, and what the link between them does to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from enum import IntFlag
from typing import Final, cast

from lab.kubernetes.lane import Buckets, Lane
from lab.kubernetes.links import CLEAR, Address, Link, Shape, Source

BUFFER_BYTES: Final = 256 * 1024
"""What may wait for a slow reader before its writer is held back."""
_RESET: Final = struct.pack("ii", 1, 0)


class Hold(IntFlag):
    """Why nothing is read from an end."""

    CONNECTING = 1
    SLOW = 2
    CUT = 4
    CROWDED = 8


class Side(asyncio.Protocol):
    """One end; what it receives goes to its peer, straight or through a lane."""

    def __init__(self, flow: Flow, peer: Side | None = None) -> None:
        self.flow = flow
        self.peer = peer
        self.transport: asyncio.Transport | None = None
        self.finished = False
        self.lane: Lane | None = None
        self.holds = Hold(0)
        self.ended: Callable[[], None] | None = None
        """What this end's going means to its peer, kept back while the link is cut."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.lane is not None:
            self.lane.put(data)
        elif self.peer and self.peer.transport:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        if self.peer is None or self.peer.transport is None or self.transport is None:
            return False
        if self.lane is not None:
            self.lane.end(self._finish_late)
            return True
        return self._finish()

    def _finish(self) -> bool:
        """Pass on that this end has said all; whether the other direction stays open."""
        self.finished = True
        if self.peer is None or self.peer.transport is None:
            return False
        if self.peer.finished:  # both have said all they had to say
            self.peer.transport.close()
            return False
        if not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        return True

    def _finish_late(self) -> None:
        if not self._finish() and self.transport:
            self.transport.close()

    def pause_writing(self) -> None:
        if self.peer:
            self.peer.hold(Hold.SLOW)

    def resume_writing(self) -> None:
        if self.peer:
            self.peer.release(Hold.SLOW)

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer and self.peer.lane:
            self.peer.lane.drop()

        def tell() -> None:
            if self.peer and self.peer.transport:
                if error:
                    reset(self.peer.transport)
                else:
                    self.peer.transport.close()

        if Hold.CUT in self.holds:
            self.ended = tell
        elif self.lane is not None and not error:
            self.lane.end(tell)
        else:
            if self.lane is not None:
                self.lane.drop()
            tell()
        self.flow.lost(self)

    def hold(self, why: Hold) -> None:
        """Read nothing from this end until released for the same reason."""
        self.holds |= why
        if self.transport and not self.transport.is_closing():
            self.transport.pause_reading()

    def release(self, why: Hold) -> None:
        """Read on, unless there is another reason not to."""
        if not self.holds:
            return
        self.holds &= ~why
        if not self.holds and self.transport and not self.transport.is_closing():
            self.transport.resume_reading()

    def deliver(self, data: bytes) -> None:
        if self.peer and self.peer.transport and not self.peer.transport.is_closing():
            self.peer.transport.write(data)

    def crowded(self, full: bool) -> None:
        if full:
            self.hold(Hold.CROWDED)
        else:
            self.release(Hold.CROWDED)

    def cleared(self) -> None:
        self.lane = None

    def reset(self) -> None:
        self.flow.reset()

    def pass_through(self, shape: Shape, *, cut: bool, buckets: Buckets, not_before: float) -> None:
        """Treat what this end says so from now on."""
        if self.lane is None and shape != Shape():
            self.lane = Lane(self, buckets, not_before=not_before)
        if cut:
            self.hold(Hold.CUT)
        if self.lane is not None:
            self.lane.change(shape, frozen=cut)
        if not cut:
            self.release(Hold.CUT)
            if self.ended is not None:
                ended, self.ended = self.ended, None
                ended()


class Flow:
    """A connection of one client to one pod."""

    def __init__(
        self, buckets: Buckets, opened: Callable[[Flow, asyncio.Transport], None], over: Callable[[Flow], None]
    ) -> None:
        self._buckets = buckets
        self._opened = opened
        self._over = over
        self._passable: asyncio.Event | None = None
        self._since = 0.0
        self.client = _Client(self)
        self.server: Side | None = None
        self.peer: Address | None = None
        """Where the client's end is."""
        self.backend: Address | None = None
        self.source: Source | None = None
        """Who opened it, once somebody wanted to know."""
        self.link: Link = CLEAR

    def accepted(self, transport: asyncio.Transport) -> None:
        """The client's end is there; its words wait for the pod's."""
        self._since = asyncio.get_running_loop().time()
        peer = transport.get_extra_info("peername")
        self.peer = (str(peer[0]), int(peer[1])) if peer else None
        self.client.hold(Hold.CONNECTING)
        self._opened(self, transport)

    def apply(self, link: Link) -> None:
        """Treat the connection so from now on, whatever is on its way."""
        if link == self.link:
            return
        self.link = link
        if self._passable and not link.cut:
            self._passable.set()
        self._shape()

    def _shape(self) -> None:
        if self.server is None:
            return
        link = self.link
        # a handshake over this link would have taken a round trip before the first byte
        first = self._since + link.upstream.delay_seconds + link.downstream.delay_seconds
        for side, shape in ((self.client, link.upstream), (self.server, link.downstream)):
            side.pass_through(shape, cut=link.cut, buckets=self._buckets, not_before=first)

    async def passable(self) -> None:
        """Done once the link is not cut."""
        while self.link.cut:
            self._passable = asyncio.Event()
            await self._passable.wait()

    def join(self, server: Side) -> None:
        """The pod's end is there."""
        self.server = server
        self.client.peer = server
        if self.link != CLEAR:
            self._shape()
        self.client.release(Hold.CONNECTING)

    def lost(self, side: Side) -> None:
        """One end is over."""
        other = self.server if side is self.client else self.client
        if other is None or other.transport is None or other.transport.is_closing():
            self._over(self)

    def reset(self) -> None:
        """RST to both ends, at once."""
        for side in (self.client, self.server):
            if side is not None:
                if side.lane:
                    side.lane.drop()
                    side.lane = None
                if side.transport:
                    reset(side.transport)


class _Client(Side):
    """The accepted end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.flow.accepted(cast("asyncio.Transport", transport))


def reset(transport: asyncio.Transport) -> None:
    """Close with RST, so that the other end learns that this was no orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
