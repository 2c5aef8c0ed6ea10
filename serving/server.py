"""The gateway's web server: drains on SIGTERM, and knows which client connections are open."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from serving.admission import Address
from serving.tls import Certificate

KEEP_ALIVE_SECONDS: Final = 30


class Server(uvicorn.Server):
    """Drains on SIGTERM: red and still answering for a moment, then closed to new requests, then done."""

    def __init__(self, app: FastAPI, certificate: Certificate | None = None) -> None:
        self._gateway = app.state.gateway
        settings = self._gateway.settings
        config = uvicorn.Config(
            app,
            host=settings.pod_ip,
            port=settings.port,
            loop="serving.event_loop:Loop",
            access_log=settings.access_log,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # a connection is counted under the address it really comes from
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
            timeout_graceful_shutdown=int(settings.request_timeout_seconds) + 2,
        )
        super().__init__(config)
        self._gateway.admission.callers.open_connections = self._open_connections

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second one, or Ctrl-C: stop."""
        if self._gateway.draining or sig == signal.SIGINT:
            super().handle_exit(sig, frame)
            return
        self._gateway.drain()
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, self._gateway.settings.drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _open_connections(self) -> set[Address]:
        clients = (getattr(connection, "client", None) for connection in self.server_state.connections)
        return {client for client in clients if client is not None}
