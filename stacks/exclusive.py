"""One `up` or drill at a time: the environment's lock around a walk over its stacks, a signed snapshot after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from signals import snapshot
from signals.lock import EnvironmentLock, hold
from signals.store import SignalStore, stores_of
from stacks import engine as engines
from stacks.contract import ContractError, StackName, StorageOutputs
from stacks.runs import RUN_SECONDS, Engine, EngineError
from stacks.workspace import Workspace

STORAGE = "storage"

Say = Callable[[str], None]


def stores(exported: Mapping[str, Mapping[str, Any]]) -> list[SignalStore]:
    """Signal buckets of the storage stacks among these outputs; one of an older program has none."""
    found: dict[str, StorageOutputs] = {}
    for name, values in exported.items():
        if StackName.parse(name).layer == STORAGE:
            try:
                outputs = StorageOutputs.read(values)
            except ContractError:
                continue
            found[outputs.site] = outputs
    return stores_of(found)


def standing(workspace: Workspace, engine: Engine) -> list[SignalStore]:
    """Signal buckets of the storage stacks that are up."""
    return stores(engines.outputs(workspace, engine, _storage(workspace)))


class Held:
    """The environment while it is ours."""

    def __init__(self, workspace: Workspace, engine: Engine, lock: EnvironmentLock, *, everywhere: bool) -> None:
        self._workspace = workspace
        self._engine = engine
        self._lock = lock
        self._everywhere = everywhere

    def after(self, layer: Sequence[StackName]) -> None:
        """Take the lock in the stores that have just come up. Raises LockedError."""
        if self._everywhere and layer[0].layer == STORAGE:
            self._lock.take(standing(self._workspace, self._engine))

    def before_deletion(self, layer: Sequence[StackName]) -> None:
        """Write nothing more into stores that are about to be emptied and deleted."""
        if layer[0].layer == STORAGE:
            self._lock.stand_still(RUN_SECONDS)

    def record(self, say: Say) -> None:
        """Sign what all stacks export now and put it where it is found when the state backend is away."""
        exported = engines.outputs(self._workspace, self._engine)
        taken = snapshot.Snapshot.of(self._workspace.env, exported, snapshot.revision(self._workspace.root))
        for site, error in snapshot.write(taken, self._workspace.home, stores(exported)).items():
            if error is not None:
                say(f"the snapshot of outputs was not written to the store of {site}: {error}")


@contextmanager
def held(
    workspace: Workspace,
    engine: Engine,
    purpose: str,
    say: Say,
    *,
    everywhere: bool = True,
    known: Sequence[SignalStore] | None = None,
) -> Iterator[Held]:
    """Hold the environment's lock, on this machine only unless `everywhere`. Raises LockedError, EngineError.

    `known` names the stores where the engine cannot be asked. When the lock is taken away, the engine's runs are ended
    in order and EngineError is raised.
    """
    reachable: Sequence[SignalStore] = []
    if everywhere:
        reachable = standing(workspace, engine) if known is None else known

    def lost(reason: str) -> None:
        say(f"{reason}; ending what is in flight")
        engine.interrupt()

    folder = workspace.home / workspace.env
    with hold(workspace.env, folder, reachable, purpose, say=say, lost=lost) as lock:
        try:
            yield Held(workspace, engine, lock, everywhere=everywhere)
        except EngineError as error:
            if lock.lost:
                error.add_note(f"the lock was lost: {lock.lost}")
            raise
        if lock.lost:
            raise EngineError(f"the lock was lost while at work: {lock.lost}; see who has it: tandem lock status")


def _storage(workspace: Workspace) -> list[list[StackName]]:
    return [layer for layer in workspace.order() if layer[0].layer == STORAGE]
