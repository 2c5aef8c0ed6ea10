"""The watch bus: one bounded history per kind, and watchers that are cursors into it.

A watcher holds no queue of its own. One that falls behind the history is cut off with Gone and lists again, so memory
is bounded by the histories however slow a client is.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from lab.kubernetes.api.errors import Gone
from lab.kubernetes.api.objects import Object, clone

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
Matches = Callable[[Object], bool]

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a streaming list."""


@dataclass(frozen=True)
class Event:
    """One change, as a watcher sees it."""

    type: EventType
    object: Object

    def to_json(self) -> dict[str, Any]:
        """The line of a watch stream."""
        return {"type": self.type, "object": self.object}


@dataclass(frozen=True)
class Change:
    """One change, as the store made it; `before` and `after` are the store's own and never altered."""

    version: int
    before: Object | None
    after: Object | None
    """None when the object was removed."""
    final: Object | None = None
    """What a DELETED event carries: the last state with the version of its removal."""


@dataclass
class History:
    """The last `limit` changes of one kind."""

    floor: int
    """Versions up to this one can be watched from; nothing older."""
    limit: int = 1024
    changes: deque[Change] = field(default_factory=deque)
    forgotten: int = 0
    """How many changes have left the history; position p is at index p - forgotten."""
    watches: weakref.WeakSet[Watch] = field(default_factory=weakref.WeakSet)

    def append(self, change: Change) -> None:
        """Record a change and wake the watchers."""
        self.changes.append(change)
        while len(self.changes) > self.limit:
            self.floor = self.changes.popleft().version
            self.forgotten += 1
        for watch in list(self.watches):
            watch.wake()

    def position_after(self, version: int) -> int:
        """Position of the first change younger than `version`; Gone when some of those are forgotten."""
        if version < self.floor:
            raise Gone(
                f"too old resource version: {version} ({self.floor}); list again and watch from that list's version"
            )
        index = len(self.changes)
        while index and self.changes[index - 1].version > version:
            index -= 1
        return self.forgotten + index

    def read(self, position: int, limit: int = 256) -> Sequence[Change]:
        """Changes from `position` on; Gone when the reader was too slow."""
        if position < self.forgotten:
            raise Gone("the watch fell behind the history that is kept; list again and watch from that list's version")
        return list(islice(self.changes, position - self.forgotten, position - self.forgotten + limit))


class Watch(AsyncIterator[Event]):
    """The changes of one kind that match, in order; subscribes when made, ends at the time-out or at `close()`."""

    def __init__(
        self,
        history: History,
        *,
        initial: Sequence[Object],
        since: int,
        matches: Matches,
        bookmark: Callable[[], Object] | None = None,
        bookmark_seconds: float = 10.0,
        mark_initial_end: bool = False,
        timeout_seconds: float | None = None,
    ) -> None:
        self._history = history
        self._position = history.position_after(since)
        self._matches = matches
        self._ready: deque[Event] = deque(Event("ADDED", clone(obj)) for obj in initial)
        self._bookmark = bookmark
        self._bookmark_seconds = bookmark_seconds
        self._signal = asyncio.Event()
        self._closed = False
        self._ends = None if timeout_seconds is None else asyncio.get_running_loop().time() + timeout_seconds
        if mark_initial_end and bookmark:
            mark = bookmark()
            mark["metadata"]["annotations"] = {INITIAL_EVENTS_END: "true"}
            self._ready.append(Event("BOOKMARK", mark))
        history.watches.add(self)

    def wake(self) -> None:
        """The history has grown."""
        self._signal.set()

    def close(self) -> None:
        """End the watch; the iterator stops."""
        self._closed = True
        self._history.watches.discard(self)
        self._signal.set()

    async def aclose(self) -> None:
        """As `close()`; lets callers use contextlib.aclosing."""
        self.close()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._closed:
                raise StopAsyncIteration
            if self._ready:
                return self._ready.popleft()
            self._signal.clear()
            if self._fill():
                continue
            await self._wait()

    def _fill(self) -> bool:
        changes = self._history.read(self._position)
        self._position += len(changes)
        for change in changes:
            event = self._seen(change)
            if event:
                self._ready.append(event)
        return bool(changes)

    def _seen(self, change: Change) -> Event | None:
        """The change as this watcher's selector sees it: an object may enter or leave the selection."""
        was = change.before is not None and self._matches(change.before)
        if change.after is not None and self._matches(change.after):
            return Event("MODIFIED" if was else "ADDED", clone(change.after))
        if not was:
            return None
        last = clone(change.final or change.before)
        last["metadata"]["resourceVersion"] = str(change.version)
        return Event("DELETED", last)

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        pause = self._bookmark_seconds if self._bookmark else None
        if self._ends is not None:
            remaining = self._ends - now
            if remaining <= 0:
                self.close()
                return
            pause = remaining if pause is None else min(pause, remaining)
        try:
            async with asyncio.timeout(pause):
                await self._signal.wait()
        except TimeoutError:
            if self._bookmark:
                self._ready.append(Event("BOOKMARK", self._bookmark()))
