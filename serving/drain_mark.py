"""Whether the site is being emptied: a small object in the site's own store, looked for at a fixed pace.

It is there when the store answers 200 and the token stands in the body. A store that refuses, lacks it, is away or
takes too long says nothing, so losing a store drains nobody. It is asked as whom the pod is; without a key and an
identity openly, which a store allows from listed networks.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from serving import ServingError

PACE_SECONDS: Final = 2.0
DEADLINE_SECONDS: Final = 1.0
READ_BYTES: Final = 5120
"""So much of a body is searched, as much as the DNS service's checkers read of it."""
ANSWER_BYTES: Final = 16 * 1024
PORTS: Final = {"http": 80, "https": 443}

REFUSED: Final = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
"""Who asks openly gets these for a mark that is not there; who has credentials is told that these are of no use."""

log = logging.getLogger(__name__)


class DrainMark:
    """Looks for one mark for ever; `present` is what the last look saw."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        sign: Callable[[str], Mapping[str, str]] | None = None,
        pace_seconds: float = PACE_SECONDS,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        """`sign` gives the headers that say who asks for a URL; it may block."""
        self.present = False
        self._sign = sign
        self._trouble = ""
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
        signed: Mapping[str, str] | None = None if self._sign else {}
        try:
            async with asyncio.timeout(self._deadline_seconds):
                if self._sign:
                    signed = await asyncio.to_thread(self._sign, self._url)
                answer = await self._get(signed or {})
            status, body = _parsed(answer)
        except ServingError as error:
            self._tell(str(error))
            return False
        except TimeoutError as error:
            self._tell(f"no credentials within {self._deadline_seconds:g} s" if signed is None else self._trouble)
            log.debug("no drain mark seen: %r", error)
            return False
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.debug("no drain mark seen: %r", error)
            return False
        except Exception:  # the look-out must outlive whatever a store can send
            log.exception("looking for the drain mark")
            return False
        self._tell(f"the store answers {status}" if self._sign and status in REFUSED else "")
        return self._token in body

    def _tell(self, trouble: str) -> None:
        """Log what keeps every mark from being seen, once."""
        if trouble and trouble != self._trouble:
            log.warning("no drain mark can be seen: %s; a site that is drained would keep its connections", trouble)
        self._trouble = trouble

    async def _get(self, signed: Mapping[str, str]) -> bytes:
        """Head and body as they come, up to a limit."""
        url = urlsplit(self._url)
        headers = {"Host": url.netloc, "Connection": "close", **signed}
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        reader, writer = await asyncio.open_connection(url.hostname, url.port or PORTS[url.scheme], ssl=self._tls)
        try:
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            writer.write(f"GET {target} HTTP/1.1\r\n{said}\r\n".encode("ascii"))
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


def _parsed(answer: bytes) -> tuple[int, bytes]:
    """Status of an answer, and the beginning of its body if that is 200. Raises HTTPException."""
    # The standard library's parser knows both framings; all it wants of a socket is a file.
    response = http.client.HTTPResponse(cast("http.client.socket.socket", _Received(answer)))  # type: ignore[name-defined]
    response.begin()
    return response.status, response.read(READ_BYTES) if response.status == http.client.OK else b""
