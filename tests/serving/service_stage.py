"""A ClusterIP for tests: each new connection goes to one of the backends of this moment; what is open stays."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class Service:
    """Connections to one address, carried to backends host:port in turn."""

    def __init__(self, host: str, port: int) -> None:
        self.backends: list[str] = []
        self.opened: list[str] = []
        self._address = (host, port)
        self._pipes: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()

    def cut(self) -> None:
        """Reset what is open, as when a pod is gone for good."""
        self._loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in self._pipes])

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend = self.backends[len(self.opened) % len(self.backends)] if self.backends else ""
        self.opened.append(backend)
        host, _, port = backend.partition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port or 0))
        except OSError:
            writer.transport.abort()
            return
        self._pipes |= {writer, far_writer}
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._pipes -= {writer, far_writer}

    @contextlib.contextmanager
    def serving(self) -> Iterator[Service]:
        """Listen until the end of the block."""
        started = threading.Event()
        stop = asyncio.Event()

        async def serve() -> None:
            server = await asyncio.start_server(self._carry, *self._address)
            started.set()
            await stop.wait()
            server.close()
            for writer in self._pipes:
                writer.transport.abort()
            await asyncio.sleep(0.05)  # so that the pumps see it

        thread = threading.Thread(target=self._loop.run_until_complete, args=(serve(),), daemon=True)
        thread.start()
        try:
            assert started.wait(30)
            yield self
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join(30)
            self._loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
