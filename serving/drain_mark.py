"""Whether the site is being emptied: a small object in the site's own store, looked for at a fixed pace.

It is there when the store answers 200 and the token stands in the body. A store that refuses, lacks it, is away or
takes too long says nothing, so losing a store drains nobody.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import ssl
from typing import Final, cast
from urllib.parse import urlsplit

PACE_SECONDS: Final = 2.0
DEADLINE_SECONDS: Final = 1.0
READ_BYTES: Final = 5120
"""So much of a body is searched, as much as the DNS service's checkers read of it."""
ANSWER_BYTES: Final = 16 * 1024
PORTS: Final = {"http": 80, "https": 443}

log = logging.getLogger(__name__)


class DrainMark:
    """Looks for one mark for ever; `present` is what the last look saw."""

    def __init__(
        self, url: str, token: str, *, pace_seconds: float = PACE_SECONDS, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        self.present = False
        self._url = url
        self._token = token.encode()
        self._pace_seconds = pace_seconds
        self._deadline_seconds = deadline_seconds
        self._tls = ssl.create_default_context() if urlsplit(url).scheme == "https" else None

    async def run(self) -> None:
        """Look at a fixed pace; without a URL there is nothing to look for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._url:
            present = await self.look()
            if present != self.present:
                log.warning("the site is %s", "being emptied" if present else "open again")
                self.present = present
            due = max(due + self._pace_seconds, loop.time())
            await asyncio.sleep(due - loop.time())

    async def look(self) -> bool:
        """Whether the mark is there now."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                answer = await self._get()
            return self._token in _body(answer)
        except (OSError, TimeoutError, http.client.HTTPException, ValueError) as error:
            log.debug("no drain mark seen: %r", error)
            return False
        except Exception:  # the look-out must outlive whatever a store can send
            log.exception("looking for the drain mark")
            return False

    async def _get(self) -> bytes:
        """Head and body as they come, up to a limit."""
        url = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port or PORTS[url.scheme], ssl=self._tls)
        try:
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode("ascii"))
            answer = bytearray()
            while len(answer) < ANSWER_BYTES and (chunk := await reader.read(ANSWER_BYTES)):
                answer += chunk
            return bytes(answer)
        finally:
            writer.transport.abort()


class _Received:
    """Bytes in the place of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def _body(answer: bytes) -> bytes:
    """The beginning of the body of an answer with status 200; of any other, nothing. Raises HTTPException."""
    # The standard library's parser knows both framings; all it wants of a socket is a file.
    response = http.client.HTTPResponse(cast("http.client.socket.socket", _Received(answer)))  # type: ignore[name-defined]
    response.begin()
    return response.read(READ_BYTES) if response.status == http.client.OK else b""
