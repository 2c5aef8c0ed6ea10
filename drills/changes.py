"""What a drill changes, from its prior state to nothing left: the host's half of the undo beside the leases'."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from drills.access import CALL_SECONDS
from drills.actions.network_chaos import Leave
from drills.drill import Abort, Action, Drill, DrillError, NotRun, completed
from drills.journal import Journal
from drills.lease import State, Undo


class Standing(Protocol):
    """The undo of one site, however it stands there."""

    site: str

    async def stand(self, undos: Sequence[Undo]) -> None:
        """Put it up and see it running. Raises NotRun."""
        ...

    async def keep(self) -> None:
        """Renew it until cancelled."""
        ...

    async def renew(self) -> None:
        """Keep it waiting for another term. Raises DrillError when it waits no more."""
        ...

    async def release(self) -> str:
        """Tell it that all was put back; the state it ends in."""
        ...

    async def remove(self) -> None:
        """Take it away unused."""
        ...

    @property
    def lost(self) -> bool:
        """Whether it must have undone everything by now."""
        ...

    @property
    def left_seconds(self) -> float:
        """Until it may begin to undo."""
        ...


@runtime_checkable
class GoesOn(Protocol):
    """An action that changes something again while its stage lasts."""

    @property
    def leave(self) -> Leave:
        """Whom it asks before."""
        ...


class Changes:
    """Every action of one drill, with its prior state and whether it is applied."""

    def __init__(self, journal: Journal, leases: Sequence[Standing], deadline_seconds: float) -> None:
        self._journal = journal
        self._leases = leases
        self._deadline_seconds = deadline_seconds
        self._standing: list[Standing] = []
        self._kept: list[asyncio.Future[None]] = []
        self._applied: list[Undo] = []
        self.frame: list[Undo] = []
        self.staged: list[list[Undo]] = []
        """By stage, in the drill's order."""

    async def prepare(self, drill: Drill) -> None:
        """Learn every action's prior state. Raises NotRun for one that is not known."""
        self.frame = [Undo(action, await _prior(action)) for action in drill.frame]
        self.staged = [[Undo(action, await _prior(action)) for action in stage.actions] for stage in drill.stages]

    @property
    def undos(self) -> list[Undo]:
        """Every action once, with its prior state; a relapse is put back as its first attack is."""
        found: list[Undo] = []
        for undo in [*self.frame, *(undo for undos in self.staged for undo in undos)]:
            if undo not in found:
                found.append(undo)
        return found

    @property
    def lost(self) -> list[str]:
        """Sites whose lease could not be kept: the undo there is at work."""
        return [lease.site for lease in self._standing if lease.lost]

    async def secure(self) -> None:
        """Put the undo up in every site, and write it down. Raises NotRun."""
        for lease in self._leases:
            await lease.stand([undo for undo in self.undos if undo.action.site == lease.site])
            self._standing.append(lease)
            self._kept.append(asyncio.ensure_future(lease.keep()))
            self._journal.entry("lease", f"the undo stands in {lease.site}")
        self._journal.undo_stands([undo.document() for undo in self.undos])

    async def apply(self, undos: Sequence[Undo]) -> None:
        """Make the changes, each only while the undo stands in every site. Raises Abort when one does not."""
        for undo in undos:
            await self._leave()
            if isinstance(undo.action, GoesOn):
                undo.action.leave.ask = self._leave
            self._journal.entry("action", undo.action.name, prior=undo.prior)
            self._applied.append(undo)
            await completed(asyncio.ensure_future(undo.action.apply()))

    async def _leave(self) -> None:
        """Whether something may be changed now: every undo was just heard to wait, and longer than a call lasts."""
        if self.lost:
            raise Abort(f"the undo in {', '.join(self.lost)} waits no more: nothing is changed without it")
        heard = await asyncio.gather(*(lease.renew() for lease in self._standing), return_exceptions=True)
        for lease, answer in zip(self._standing, heard, strict=True):
            if isinstance(answer, DrillError):
                raise Abort(f"nothing is changed without the undo in {lease.site}: {answer}") from answer
            if isinstance(answer, BaseException):
                raise answer
            if lease.left_seconds <= CALL_SECONDS:
                raise Abort(
                    f"the lease in {lease.site} has {lease.left_seconds:.0f} s left, a change may take"
                    f" {CALL_SECONDS:.0f} s: a faster way to its API, or a longer lease"
                )

    async def put_back(self, undos: Sequence[Undo], beside: Sequence[asyncio.Future[None]] = ()) -> None:
        """Undo what was applied of these, in reverse, once what went on beside it has ended.

        Each is tried until it is done or its deadline passes; one that fails keeps no other back.
        """
        await _cancelled(beside)
        failures: list[str] = []
        for undo in reversed(undos):
            if undo not in self._applied:
                continue
            if left := await self._undone(undo):
                failures.append(f"{undo.action.name}: not undone: {'; '.join(left)}")
                continue
            self._applied.remove(undo)
            self._journal.entry("undo", f"undone: {undo.action.name}")
        if failures:
            raise DrillError("; ".join(failures))

    async def _undone(self, undo: Undo) -> list[str]:
        """What is left of one action when it is undone or its deadline passes."""
        end = time.monotonic() + self._deadline_seconds
        while True:
            try:
                await undo.action.undo(undo.prior)
            except Exception as error:  # noqa: BLE001  a defect in one undo must not keep the others back
                left = [f"{type(error).__name__}: {error}"]
            else:
                left = await _left_of(undo)
            if not left:
                return []
            self._journal.entry("undo", f"not yet: {'; '.join(left)}")
            if time.monotonic() > end:
                return left
            await asyncio.sleep(min(1.0, self._deadline_seconds / 10))

    async def close(self) -> list[str]:
        """Release what stands in the sites; what is left of the drill, looked for by both sides."""
        left = [each for undo in self.undos for each in await _left_of(undo)]
        await _cancelled(self._kept)
        for lease in self._standing:
            try:
                state = await lease.release()
            except Exception as error:  # noqa: BLE001  the other leases are released all the same
                left.append(f"the lease in {lease.site} is not released and undoes by itself: {error}")
                continue
            self._journal.entry("lease", f"the undo in {lease.site} has ended: {state}")
            if state != State.CLEAN:
                left.append(f"the undo in {lease.site} ended {state or 'without a word'}")
        if self._journal.content["undo"] is not None and not left:
            self._journal.undone()
        return left


async def _prior(action: Action) -> dict[str, Any]:
    try:
        return await action.prepare()
    except NotRun:
        raise
    except DrillError as error:
        raise NotRun(f"{action.name}: its prior state is not known: {error}") from error


async def _left_of(undo: Undo) -> list[str]:
    """What of an action is still there; what cannot be asked about counts as left."""
    try:
        return await undo.action.residue(undo.prior)
    except DrillError as error:
        return [str(error)]
    except Exception as error:  # noqa: BLE001  a defect in asking proves nothing gone
        return [f"{undo.action.name}: {type(error).__name__}: {error}"]


async def _cancelled(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel and wait; what they raise meanwhile is nobody's news any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
