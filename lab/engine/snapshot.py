"""The state while it changes: every begun and every ended step is on disk before the next thing happens."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from lab.engine.state import Operation, Resource, State


class Snapshot:
    """Recorded resources, step by step replaced by the declared ones. Safe to use from several threads."""

    def __init__(self, state: State, path: Path | None) -> None:
        """`path` None keeps everything in memory: a dry run."""
        self._path = path
        self._lock = threading.RLock()
        self._base = [replace(each) for each in state.resources]
        self._done: list[Resource] = []
        self._running: list[Operation] = []
        self.interrupted = {each.resource.urn: each for each in state.operations}
        """Operations an earlier run began and nobody ended, by URN."""

    def state(self) -> State:
        """What the file holds now: finished resources first, so that each stands after what it needs."""
        with self._lock:
            return State([*self._done, *self._base], [*self.interrupted.values(), *self._running])

    def save(self) -> None:
        """Write the file, unless this is a dry run."""
        with self._lock:
            if self._path is not None:
                self.state().save(self._path)

    def remaining(self) -> list[Resource]:
        """Recorded resources the program has not declared again, oldest first."""
        with self._lock:
            return list(self._base)

    def find(self, urn: str) -> Resource | None:
        """The recorded resource of that name that is not on its way out."""
        with self._lock:
            return next((each for each in self._base if each.urn == urn and not each.delete), None)

    def declared(self, urn: str) -> Resource | None:
        """The resource of that name which this run has finished."""
        with self._lock:
            return next((each for each in self._done if each.urn == urn), None)

    def rename(self, old: str, new: str) -> None:
        """A recorded resource goes by a new URN from now on."""
        with self._lock:
            for each in self._base:
                each.rename(old, new)
                if each.urn == old and not each.delete:
                    each.urn = new
            if old in self.interrupted:
                self.interrupted[new] = self.interrupted.pop(old)

    def begin(self, kind: str, resource: Resource) -> Operation:
        """Record that something is about to happen to the resource."""
        with self._lock:
            operation = Operation(kind, resource)
            self._running.append(operation)
            self.interrupted.pop(resource.urn, None)
            self.save()
            return operation

    def end(
        self,
        operation: Operation | None,
        *,
        put: Resource | None = None,
        drop: Resource | None = None,
        retire: Resource | None = None,
        unmake: Resource | None = None,
        uncertain: bool = False,
    ) -> None:
        """Record how it ended.

        `put` is there now, `drop` is gone, `retire` is yet to be deleted, `unmake` is deleted and has to be made again.
        An uncertain end leaves the question to the next run. What is as recorded is not written again.
        """
        with self._lock:
            recorded = put is not None and put == drop and put.urn not in self.interrupted
            if operation is not None:
                self._running.remove(operation)
                if uncertain:
                    self.interrupted[operation.resource.urn] = operation
            if drop is not None:
                self._base = [each for each in self._base if each is not drop]
            if retire is not None:
                retire.delete = True
            if unmake is not None:
                unmake.pending_replacement = True
            if put is not None:
                self._done.append(put)
                self.interrupted.pop(put.urn, None)
            if not recorded:
                self.save()

    def interruption(self, urn: str) -> Operation | None:
        """What an earlier run began on the resource and nobody ended."""
        with self._lock:
            return self.interrupted.get(urn)

    def adopt(self, resource: Resource) -> None:
        """Record a resource an interrupted run left behind, so that it can be deleted."""
        with self._lock:
            self._base.append(resource)
            self.interrupted.pop(resource.urn, None)
            self.save()
