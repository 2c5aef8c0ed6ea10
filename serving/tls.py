"""The gateway's certificate: read when it starts, and again whenever it was renewed; nobody is cut off for that."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

PACE_SECONDS: Final = 10.0
"""A renewed Secret reaches its pods' files within about a minute; renewal comes weeks before the end."""

log = logging.getLogger(__name__)


class Certificate:
    """One TLS context that follows its files: connections that are open go on, new ones get the new certificate."""

    def __init__(self, certificate: str, key: str, *, pace_seconds: float = PACE_SECONDS) -> None:
        """Raise OSError or ssl.SSLError unless the files hold a certificate and its key."""
        self._files = (certificate, key)
        self._pace_seconds = pace_seconds
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*self._files)
        self._seen = self._content()

    async def run(self) -> None:
        """Look at a fixed pace, for ever."""
        while True:
            await asyncio.sleep(self._pace_seconds)
            self.look()

    def look(self) -> bool:
        """Whether the files had changed and are in use now; what cannot be used is left for the next look."""
        try:
            content = self._content()
            if content == self._seen:
                return False
            # A pair that does not fit would leave the context with neither: it is tried on another one first.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
            self.context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("the renewed certificate is not used yet: %s", error)
            return False
        self._seen = content
        log.info("the certificate was renewed")
        return True

    def _content(self) -> tuple[bytes, ...]:
        # Not the files' times: a mounted Secret changes by a link that moves.
        return tuple(Path(file).read_bytes() for file in self._files)
