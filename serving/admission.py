"""The door of the gateway: who comes in, who is asked to come again, and which connections are asked to go.

It stands before routing and before any body is read, so that turning a request away costs next to nothing.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.recommendation import JSON, RECOMMENDATIONS_PATH, RefusalError

TOO_MANY: Final = 429
RETRY_AFTER: Final = {"Retry-After": "1"}
CLOSE: Final = (b"connection", b"close")
SLOTS: Final = 10
REMEMBERED_CALLERS: Final = 4096
"""So many connections are remembered before those that are gone are looked for."""

Address = tuple[str, int]


class RecentCount:
    """How often something happened within the last so many seconds, to a tenth of them."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._slot_seconds = seconds / SLOTS
        self._clock = clock
        self._slots: deque[list[int]] = deque(maxlen=SLOTS + 1)

    def note(self) -> None:
        """It happened now."""
        slot = int(self._clock() / self._slot_seconds)
        if self._slots and self._slots[-1][0] == slot:
            self._slots[-1][1] += 1
        else:
            self._slots.append([slot, 1])

    @property
    def value(self) -> int:
        """How often, up to now."""
        oldest = int(self._clock() / self._slot_seconds) - SLOTS
        return sum(count for slot, count in self._slots if slot >= oldest)


class Callers:
    """Open client connections that have asked for a recommendation, as far as `open_connections` still knows them."""

    def __init__(self) -> None:
        self.open_connections: Callable[[], Collection[Address]] = tuple
        self._seen: set[Address] = set()
        self._look_at = REMEMBERED_CALLERS

    def note(self, address: Address | None) -> None:
        """Remember that a connection asked."""
        if address is not None:
            self._seen.add(address)
            if len(self._seen) >= self._look_at:
                self._look_at = max(REMEMBERED_CALLERS, 2 * self.count)

    @property
    def count(self) -> int:
        """How many are open now."""
        self._seen.intersection_update(self.open_connections())
        return len(self._seen)


class Admission:
    """How many requests for recommendations are inside, at most `limit`, and how many were turned away lately."""

    def __init__(
        self,
        site: str,
        *,
        limit: int,
        recent_seconds: float,
        count_shed: Callable[[], None],
        count_unread: Callable[[], None],
        closing: Callable[[], bool],
    ) -> None:
        self.limit = limit
        self.in_flight = 0
        self.shed = RecentCount(recent_seconds)
        self.callers = Callers()
        self.closing = closing
        self._count_shed = count_shed
        self._count_unread = count_unread
        self._answer = _too_many(site, limit)
        self._last_answer = _with_close(self._answer[0]), self._answer[1]

    def turn_away(self) -> tuple[Message, Message]:
        """Count a request that does not come in; the answer it gets."""
        self.note_shed()
        self._count_unread()
        return self._last_answer if self.closing() else self._answer

    def note_shed(self) -> None:
        """Count a request that is answered with 429."""
        self.shed.note()
        self._count_shed()


class Door:
    """The ASGI layer of an admission. It never looks at requests for anything but recommendations."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or turn it away at once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        admission = self._admission

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and admission.closing():
                message = _with_close(message)
            await send(message)

        if scope["path"] != RECOMMENDATIONS_PATH or scope["method"] != "POST":
            await self._app(scope, receive, answer)
            return
        admission.callers.note(scope.get("client"))
        if admission.in_flight >= admission.limit:
            for message in admission.turn_away():
                await send(message)
            return
        admission.in_flight += 1
        try:
            await self._app(scope, receive, answer)
        finally:
            admission.in_flight -= 1


def busy(value: str) -> RefusalError:
    """What a request that was turned away is told."""
    return RefusalError(
        TOO_MANY, value, "more would only wait", "ask again after Retry-After, or another site", RETRY_AFTER
    )


def _too_many(site: str, limit: int) -> tuple[Message, Message]:
    refusal = busy(f"{limit} requests in flight, the limit of this gateway")
    body = json.dumps(refusal.body()).encode()
    headers = {
        "Content-Type": JSON,
        "Content-Length": str(len(body)),
        "X-Tandem-Site": site,
        **refusal.headers,
    }
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return (
        {"type": "http.response.start", "status": TOO_MANY, "headers": encoded},
        {"type": "http.response.body", "body": body},
    )


def _with_close(message: Message) -> Message:
    """The start of an answer after which the client has to connect anew, and so to resolve the name anew."""
    headers = [header for header in message.get("headers", ()) if header[0].lower() != CLOSE[0]]
    return {**message, "headers": [*headers, CLOSE]}
