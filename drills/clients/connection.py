"""One HTTP/1.1 connection of a client: asks, reads the answer, and knows whether it may be used again."""

from __future__ import annotations

import asyncio
from typing import Final, cast

import h11

from drills.clients.exchange import Exchange, Target

ANSWER_LIMIT_BYTES: Final = 4 * 1024 * 1024


class Connection(asyncio.Protocol):
    """Carries one request at a time; closes itself once it cannot carry another."""

    def __init__(self, target: Target, address: str) -> None:
        self.address = address
        self.answering = False
        """Whether a byte of the answer to the last request has come."""
        self._target = target
        self._wire = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._exchange = Exchange()
        self._end: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, target: Target, address: str) -> Connection:
        """Connect. Raises OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: cls(target, address),
            address,
            target.port,
            ssl=target.tls,
            server_hostname=target.host if target.tls else None,
            local_addr=(target.source, 0) if target.source else None,
        )
        return connection

    @property
    def usable(self) -> bool:
        """Whether another request may be sent, as far as is known on this side."""
        return self._transport is not None and not self._transport.is_closing() and self._end is None

    async def ask(self, body: bytes, exchange: Exchange, *, last: bool) -> None:
        """Send one request and read its answer to the end; `last` asks the server to close after it.

        Raises OSError or h11.RemoteProtocolError; after that, or when cancelled, the connection is to be closed.
        """
        if not self.usable or self._transport is None:
            raise ConnectionResetError("the connection was closed before the request was sent")
        self.answering, self._exchange = False, exchange
        self._end = asyncio.get_running_loop().create_future()
        headers = [
            ("Host", self._target.authority),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            *([("Connection", "close")] if last else []),
        ]
        head = h11.Request(method="POST", target=self._target.path, headers=headers)
        self._transport.write(
            b"".join(self._wire.send(event) or b"" for event in (head, h11.Data(data=body), h11.EndOfMessage()))
        )
        try:
            await self._end
        finally:
            self._end = None

    def close(self) -> None:
        """Close; harmless when it is closed."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.answering = True
        if self._end is None:  # nobody asked: whatever it is, it must not pass for the next answer
            self.close()
            return
        self._wire.receive_data(data)
        self._read()

    def eof_received(self) -> None:
        self._wire.receive_data(b"")
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc or ConnectionResetError("the connection was closed before the answer was complete"))

    def _read(self) -> None:
        while self._end is not None and not self._end.done():
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                self._finish(error)
                return
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.Response):
                self._exchange.status, self._exchange.headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                self._exchange.body += event.data
                if len(self._exchange.body) > ANSWER_LIMIT_BYTES:
                    self._finish(h11.RemoteProtocolError(f"an answer of more than {ANSWER_LIMIT_BYTES} bytes"))
            elif isinstance(event, h11.EndOfMessage):
                self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        """End the request that waits, and make ready for the next one if both sides may go on."""
        if self._end is not None and not self._end.done():
            if error is None:
                self._end.set_result(None)
            else:
                self._end.set_exception(error)
                self._end.exception()  # seen: the one who waits may have been cancelled in the same moment
        if error is None and self._wire.their_state is h11.DONE and not self._wire.trailing_data[0]:
            self._wire.start_next_cycle()
        else:
            self.close()
