"""The drill host's way to a site's API, in a form that can be cut: bytes stop, nothing is refused.

Cut are the ways to the Kubernetes APIs of all sites. The stores stay reachable, and so do the sites' users' addresses:
a host that is cut off can still renew the environment's lock and see what users see, and reach no lease.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

HOST: Final = "127.84.1.1"
START_SECONDS: Final = 10.0
CHUNK: Final = 65536


class Way:
    """A forwarder from a port of this machine to one API."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 443)
        self._scheme = parts.scheme
        self._open: asyncio.Event = asyncio.Event()
        self._open.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = ""

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Forward until stopped."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._accepted, HOST, 0)
        self.url = f"{self._scheme}://{HOST}:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()

    def cut(self) -> None:
        """Nothing passes from now on."""
        self._call(self._open.clear)

    def heal(self) -> None:
        """What waited passes, and what comes."""
        self._call(self._open.set)

    def _call(self, change: Any) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(change)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open.wait()
            back, forth = await asyncio.open_connection(*self._target)
            await asyncio.gather(self._pump(reader, forth), self._pump(back, writer))
        except OSError:
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def ways(outputs: dict[str, dict[str, Any]]) -> Iterator[tuple[dict[str, dict[str, Any]], dict[str, Way]]]:
    """The same outputs with kubeconfigs that lead over ways which can be cut, by site."""
    found: dict[str, Way] = {}
    changed = {name: dict(exported) for name, exported in outputs.items()}
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]] = []
    try:
        for exported in changed.values():
            if "kubeconfig" not in exported:
                continue
            kubeconfig = json.loads(exported["kubeconfig"])
            way = Way(kubeconfig["clusters"][0]["cluster"]["server"])
            stops.append(_start(way))
            kubeconfig["clusters"][0]["cluster"]["server"] = way.url
            exported["kubeconfig"] = json.dumps(kubeconfig)
            found[exported["site"]] = way
        yield changed, found
    finally:
        for loop, stop, thread in stops:
            loop.call_soon_threadsafe(stop.set)
            thread.join(START_SECONDS)


def _start(way: Way) -> tuple[asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]:
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(way.serve(ready, stop))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, name="way", daemon=True)
    thread.start()
    if not ready.wait(START_SECONDS):
        raise TimeoutError(f"no way to {way.url} within {START_SECONDS:g} s")
    return loop, stop, thread
