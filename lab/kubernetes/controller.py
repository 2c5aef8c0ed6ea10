"""The one pattern of every controller: watch, a queue of keys, reconcile until the world is as it should be."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from typing import ClassVar, Final, TypeAlias

from lab.kubernetes.api.errors import ApiError, Gone
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, name_of, namespace_of, uid_of
from lab.kubernetes.api.store import Store

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str]
"""Namespace and name; an empty namespace for what belongs to the cluster."""

RESYNC_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.1
RETRY_LIMIT_SECONDS: Final = 10.0


def key_of(obj: Object) -> Key:
    """The key an object is queued by."""
    return namespace_of(obj), name_of(obj)


async def follow(store: Store, kind: Kind, seen: Callable[[str, Object], None]) -> None:
    """Hand every object there is, then every change, to `seen(type, object)`; after lost history, start over.

    An object that was deleted in the lost history is handed over as DELETED.
    """
    known: dict[Key, Object] = {}
    while True:
        present = {key_of(obj): obj for obj in store.list(kind)}
        for key in set(known) - set(present):
            seen("DELETED", known.pop(key))
        try:
            async with aclosing(store.watch(kind)) as watch:
                async for event in watch:
                    if event.type == "DELETED":
                        known.pop(key_of(event.object), None)
                    elif event.type != "BOOKMARK":
                        known[key_of(event.object)] = event.object
                    if event.type != "BOOKMARK":
                        seen(event.type, event.object)
        except Gone as error:
            log.info("watch of %s starts over: %s", kind.key, error)


class Controller(ABC):
    """Brings one kind of object to what its spec asks, whatever changed and in whatever order."""

    primary: ClassVar[Kind]
    """The kind whose keys are queued."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._queue: dict[Key, None] = {}
        self._failures: dict[Key, int] = {}
        self._work = asyncio.Event()
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    @abstractmethod
    def reconcile(self, key: Key) -> float | None:
        """One step towards the spec; returns the seconds after which time alone may change the outcome."""

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """Other kinds that matter: which keys a changed object of that kind concerns."""
        return {}

    def enqueue(self, key: Key) -> None:
        """Have the key reconciled soon; many changes make one turn."""
        self._queue[key] = None
        self._work.set()

    def enqueue_all(self) -> None:
        """Have every object of the primary kind reconciled."""
        for obj in self.store.list(self.primary):
            self.enqueue(key_of(obj))

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self.store, self.primary, lambda _type, obj: self.enqueue(key_of(obj))))
            for kind, keys in self.sources().items():
                group.create_task(follow(self.store, kind, self._enqueuer(keys)))
            group.create_task(self._resync())
            group.create_task(self._drain())

    def _enqueuer(self, keys: Callable[[Object], Iterable[Key]]) -> Callable[[str, Object], None]:
        def seen(_type: str, obj: Object) -> None:
            for key in keys(obj):
                self.enqueue(key)

        return seen

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            self.enqueue_all()

    async def _drain(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._queue:
                    key = next(iter(self._queue))
                    del self._queue[key]
                    self._turn(key)
                    await asyncio.sleep(0)
        finally:
            for timer in self._timers.values():
                timer.cancel()

    def _turn(self, key: Key) -> None:
        try:
            again = self.reconcile(key)
        except ApiError as error:
            log.info("%s %s: %s: tried again", type(self).__name__, "/".join(key), error)
            self._retry(key)
        except Exception:  # one object must not stop the others
            log.exception("%s %s", type(self).__name__, "/".join(key))
            self._retry(key)
        else:
            self._failures.pop(key, None)
            if again is not None:
                self._later(key, again)

    def _retry(self, key: Key) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        self._later(key, min(RETRY_SECONDS * 2 ** min(count - 1, 10), RETRY_LIMIT_SECONDS))

    def _later(self, key: Key, seconds: float) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.enqueue, key)


def owner_of(obj: Object) -> Object | None:
    """The ownerReference of the controller of this object."""
    references = obj["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def owned_by(kind: Kind) -> Callable[[Object], Iterable[Key]]:
    """For `sources`: the key of the owner of that kind."""

    def keys(obj: Object) -> Iterable[Key]:
        owner = owner_of(obj)
        return [(namespace_of(obj), owner["name"])] if owner and owner["kind"] == kind.kind else []

    return keys


def owner_reference(kind: Kind, owner: Object) -> Object:
    """The reference that makes `owner` the controller of an object."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned(store: Store, kind: Kind, owner: Object) -> list[Object]:
    """The objects of `kind` this owner controls."""
    uid = uid_of(owner)
    mine = []
    for obj in store.list(kind, namespace_of(owner) or None):
        reference = owner_of(obj)
        if reference and reference["uid"] == uid:
            mine.append(obj)
    return mine
