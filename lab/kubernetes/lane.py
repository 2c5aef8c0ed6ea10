"""One direction of a connection whose bytes take time: in order, late, and no more of them a second than allowed."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from lab.kubernetes.links import Limit, Shape

PIECE_BYTES: Final = 16 * 1024
"""Bytes that arrive together; a slow link delivers piece by piece."""
LIMIT_BYTES: Final = 4 * 1024 * 1024
"""What may be on its way before the sender is held back."""


class Buckets:
    """When each shared rate is free again."""

    def __init__(self) -> None:
        self._free: dict[str, float] = {}

    def passed(self, limit: Limit, size: int, now: float) -> float:
        """When the last of these bytes is through, everything before them included."""
        through = max(now, self._free.get(limit.share, 0.0)) + size / limit.bytes_per_second
        self._free[limit.share] = through
        return through


class Way(Protocol):
    """Where a lane's bytes come from and go to."""

    def deliver(self, data: bytes) -> None:
        """Hand bytes to the other end."""

    def crowded(self, full: bool) -> None:
        """Hold the sender back, or let it go on."""

    def cleared(self) -> None:
        """Nothing is on its way, and nothing has to be shaped any more."""

    def reset(self) -> None:
        """End the whole connection with RST."""


class Lane:
    """Bytes on their way; an end of the sender travels behind them."""

    def __init__(self, way: Way, buckets: Buckets, *, not_before: float = 0.0) -> None:
        self._way = way
        self._buckets = buckets
        self._shape = Shape()
        self._not_before = not_before
        self._due = 0.0
        self._queue: deque[tuple[float, bytes | Callable[[], None]]] = deque()
        self._bytes = 0
        self._frozen = False
        self._timer: asyncio.TimerHandle | None = None

    def change(self, shape: Shape, *, frozen: bool) -> None:
        """Treat bytes so from now on; what was held up by a shape that is gone, passes at once."""
        self._shape, self._frozen = shape, frozen
        if shape == Shape() and self._queue:
            self._due = 0.0
            self._queue = deque((0.0, each) for _, each in self._queue)
        self._schedule()

    def put(self, data: bytes) -> None:
        """The sender said this."""
        if self._shape.resets:
            self._way.reset()
            return
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._queue.append((self._arrival(len(piece)), piece))
        self._bytes += len(data)
        if self._bytes > LIMIT_BYTES:
            self._way.crowded(True)
        self._schedule()

    def end(self, tell: Callable[[], None]) -> None:
        """The sender said nothing more: `tell` comes after all it said."""
        self._queue.append((self._arrival(0), tell))
        self._schedule()

    def drop(self) -> None:
        """Nobody is there to receive it."""
        self._queue.clear()
        self._bytes = 0
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _arrival(self, size: int) -> float:
        shape, now = self._shape, asyncio.get_running_loop().time()
        sent = max(now, self._not_before)
        through = max((self._buckets.passed(limit, size, sent) for limit in shape.limits), default=sent)
        jitter = random.uniform(-shape.jitter_seconds, shape.jitter_seconds)  # noqa: S311 -- a link's noise
        self._due = max(self._due, through + max(0.0, shape.delay_seconds + jitter))
        return self._due

    def _schedule(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._frozen:
            return
        if self._queue:
            self._timer = asyncio.get_running_loop().call_at(self._queue[0][0], self._pump)
        elif self._shape == Shape():
            self._way.cleared()

    def _pump(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time() + 1e-6
        while self._queue and self._queue[0][0] <= now:
            _, item = self._queue.popleft()
            if isinstance(item, bytes):
                self._bytes -= len(item)
                self._way.deliver(item)
            else:
                item()
        if self._bytes <= LIMIT_BYTES // 2:
            self._way.crowded(False)
        self._schedule()
