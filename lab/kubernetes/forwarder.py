"""TCP forwarding at layer 4: one listener, the backends that are ready, connections dealt out in turn.

While nothing is declared about its links a forwarder only copies. Otherwise it asks, for every connection, new or open,
what happens to it: passed on, cut without a word, slowed down or reset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from lab.kubernetes.blackhole import silence
from lab.kubernetes.callers import Callers
from lab.kubernetes.flow import Flow, Side, reset
from lab.kubernetes.lane import Buckets
from lab.kubernetes.links import CLEAR, NOTHING, Address, Links, Source
from lab.kubernetes.policy import EVERYONE
from lab.topology import LOOPBACK, on_loopback

__all__ = ["Address", "Forwarder"]

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 1.0
BACKLOG: Final = 1024


class Forwarder:
    """Forwards one address to its backends; without a backend nothing listens, so clients are refused at once.

    With `callers` the pod that opened a connection is looked up, and its source address means nothing: inside of a
    site all pods have the same. Without, sources are outside of the cluster and are who they say they are.
    """

    def __init__(self, address: Address, *, callers: Callers | None = None, buckets: Buckets | None = None) -> None:
        self.address = address
        self._callers = callers
        self._buckets = buckets or Buckets()
        self._links = NOTHING
        self._gate = EVERYONE
        self._backends: tuple[Address, ...] = ()
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._flows: set[Flow] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()

    @property
    def backends(self) -> tuple[Address, ...]:
        """Where new connections go."""
        return self._backends

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._flows)

    async def set_backends(self, backends: Sequence[Address]) -> None:
        """New connections go to these from now on; open ones stay where they are."""
        self._backends = tuple(backends)
        async with self._changing:
            if self._backends and self._server is None:
                await self._listen()
            elif not self._backends and self._server is not None:
                self._server.close()
                self._server = None
            self._guard()

    async def set_links(self, links: Links) -> None:
        """Treat every connection so from now on, those that are open too."""
        if links == self._links:
            return
        self._links = links
        self._guard()
        await asyncio.gather(*(self._judge(flow) for flow in self._flows if flow.backend))

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        await self.set_backends(())
        for task in self._tasks:
            task.cancel()
        for flow in list(self._flows):
            flow.reset()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self.address
        if not on_loopback(host):  # whatever a manifest asks for: nothing of the lab is reached from other machines
            log.error(
                "%s:%s lies outside %s and is not listened on; give the Service another one", host, port, LOOPBACK
            )
            return
        try:
            server = await loop.create_server(
                lambda: Flow(self._buckets, self._accepted, self._flows.discard).client,
                host,
                port,
                backlog=BACKLOG,
                reuse_address=True,
                start_serving=False,
            )
            self._server, self._gate = server, EVERYONE
            self._guard()  # before the first handshake
            await server.start_serving()
        except OSError as error:
            if self._server is not None:
                self._server.close()
                self._server = None
            log.warning("cannot listen on %s:%s: %s; free the port or change the Service", host, port, error)
            loop.call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        if self._backends and self._server is None:
            self._do(self.set_backends(self._backends))

    def _guard(self) -> None:
        """Have the kernel drop the handshakes of sources that reach no backend."""
        if self._server is None:
            return
        gate = self._links.gate(self._backends)
        if self._callers and not gate.nobody:
            gate = EVERYONE  # one pod's handshake looks like the next one's
        if gate != self._gate and silence(self._server.sockets, gate):
            self._gate = gate

    def _accepted(self, flow: Flow, transport: asyncio.Transport) -> None:
        """A connection has come in: find it a backend."""
        self._flows.add(flow)
        self._do(self._connect(flow, transport))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _judge(self, flow: Flow) -> None:
        """Find out what the links as they are now make of a connection, and do it."""
        while True:
            links = self._links
            if flow.backend is None or not links.concerns(flow.backend):
                link = CLEAR
            else:
                flow.source = flow.source or await self._source(flow)
                link = links.between(flow.source, flow.backend)
            if links is self._links:
                flow.apply(link)
                return

    async def _source(self, flow: Flow) -> Source:
        if flow.peer is None:
            return Source("")
        pod = await self._callers.pod_of(flow.peer, self.address) if self._callers else ""
        return Source(flow.peer[0], pod)

    async def _connect(self, flow: Flow, transport: asyncio.Transport) -> None:
        if not self._backends:
            reset(transport)
            return
        self._turn = (self._turn + 1) % len(self._backends)
        flow.backend = host, port = self._backends[self._turn]
        if self._links is not NOTHING:
            await self._judge(flow)
            if flow.link.cut:
                await flow.passable()
                if flow.backend not in self._backends:
                    await self._connect(flow, transport)
                    return
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, server = await asyncio.get_running_loop().create_connection(
                    lambda: Side(flow, flow.client), host, port
                )
        except (OSError, TimeoutError) as error:
            # as in a cluster: a flow is pinned to the backend it was dealt, another one is not tried
            log.info("%s:%s: backend %s:%s: %s", *self.address, host, port, error or "no connection in time")
            reset(transport)
            return
        if transport.is_closing():
            if server.transport:
                server.transport.close()
            return
        flow.join(server)
