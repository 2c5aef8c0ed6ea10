"""The grammar of a drill: probes ask, actions change and know their undo, and a run ends in one of four words.

A drill is a sequence of stages under one load. In each stage the actions are applied, an independent probe has to see
the symptom they claim, the effect is watched, and everything is put back.

Errors: DrillError
          NotRun      nothing was proved: no steady state, no access, or the fault did not bite
          Abort       a condition that has to hold while something is broken does not hold any more
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from drills.evidence import Evidence

Result = TypeVar("Result")
Prior = dict[str, Any]
"""What `undo` needs to know of the time before, as JSON."""


class Verdict(StrEnum):
    """How a drill ended; only `held` says that the claim was proved."""

    HELD = "held"
    DEVIATED = "deviated"
    NOT_RUN = "not run"
    ABORTED = "aborted"

    @property
    def exit_code(self) -> int:
        """Exit status of `tandem drill run`."""
        return EXIT_CODES[self]


EXIT_CODES: Final = {Verdict.HELD: 0, Verdict.DEVIATED: 1, Verdict.NOT_RUN: 2, Verdict.ABORTED: 3}


class Level(StrEnum):
    """Whom a drill may touch."""

    OBSERVE = "observe"
    """Nobody: probes only."""
    SHADOW = "shadow"
    """Synthetic users of the shadow name."""
    LIVE = "live"
    """Everybody."""


class DrillError(Exception):
    """A drill could not end in a proof either way."""


class NotRun(DrillError):  # noqa: N818  the word of the verdict
    """Nothing was proved: the message says what was missing."""


class Abort(DrillError):  # noqa: N818  the word of the verdict
    """Something that has to hold while a site is broken does not hold: the drill puts back and ends."""


@dataclass(frozen=True)
class Observation:
    """What one probe saw at one moment."""

    probe: str
    held: bool
    detail: str

    def __str__(self) -> str:
        return f"{self.probe}: {self.detail}"


class Probe(Protocol):
    """Asks one question; changes nothing."""

    @property
    def name(self) -> str:
        """The question, as a statement that holds or does not."""
        ...

    async def ask(self) -> Observation:
        """Answer once, within the probe's own deadline; never raises for an answer that is bad."""
        ...


class Action(Protocol):
    """Changes one thing and knows how to put it back, also in another process inside the site."""

    kind: ClassVar[str]
    """Its name in drills.actions."""

    @property
    def site(self) -> str:
        """The site its undo stands in."""
        ...

    @property
    def name(self) -> str:
        """What is done to what."""
        ...

    @property
    def arguments(self) -> dict[str, Any]:
        """All that makes the same action again elsewhere, as JSON."""
        ...

    async def prepare(self) -> Prior:
        """The prior state. Changes nothing."""
        ...

    async def apply(self) -> None:
        """Make the change."""
        ...

    async def undo(self, prior: Prior) -> None:
        """Put back what `apply` changed and nothing else; harmless when nothing was changed."""
        ...

    async def residue(self, prior: Prior) -> list[str]:
        """What of the change is still there; nothing once it is undone."""
        ...


@runtime_checkable
class Sustained(Protocol):
    """An action that goes on while its stage lasts."""

    async def sustain(self) -> None:
        """Go on until cancelled."""
        ...


class Meter(Protocol):
    """Counts something while the stages run."""

    async def begin(self) -> None:
        """Note where the count starts. Raises NotRun when it cannot be counted."""
        ...

    async def end(self) -> dict[str, Any]:
        """What was counted, by the name objectives ask for it with."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One disturbance, from its proof to its end."""

    name: str
    actions: Sequence[Action]
    symptom: Probe
    """Independent proof that the actions bit."""
    bite_seconds: float = 20.0
    """The symptom has to be seen within this."""
    lasting: bool = True
    """Whether the symptom has to be there still when the stage ends."""
    effect: Sequence[Probe] = ()
    """What the disturbance leads to when the defences work; the stage ends once it was seen and all is quiet."""
    effect_seconds: float = 0.0
    """How long the effect is waited for."""
    throughout: Sequence[Probe] = ()
    """What has to hold all the time from the bite to the end of the stage; asked again and again."""
    always: Sequence[Probe] = ()
    """The same, from the effect on."""
    least_seconds: float = 0.0
    """The stage lasts at least this long."""
    quiet_seconds: float = 8.0
    """Time without a failed request after which the stage may end; 0 waits for none."""
    restored: Sequence[Probe] = ()
    """What has to hold again after the actions are undone."""
    restore_seconds: float = 150.0
    pause_seconds: float = 0.0
    """Watched after that before the next stage."""


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A claim, what is done to test it, and what has to be measured for it to be held."""

    name: str
    claim: str
    site: str
    """The site that is disturbed."""
    levels: frozenset[Level]
    steady: Sequence[Probe]
    """What must hold before anything is touched, and again at the end."""
    stages: Sequence[Stage]
    frame: Sequence[Action] = ()
    """Applied before the first stage and undone after the last."""
    frame_symptom: Probe | None = None
    abort: Sequence[Probe] = ()
    """What has to hold while anything is broken, or the drill puts back and ends."""
    meters: Sequence[Meter] = ()
    objectives: Sequence[Callable[[Evidence], Finding]] = ()
    classes: tuple[str, ...] = ("dns", "dns-keepalive")
    """Client classes of the load."""
    source_addresses: tuple[str, ...] = ()
    """Local addresses every other user is bound to."""
    shadow: bool = False
    """Whether the load asks the shadow name."""
    avoid_nodes: Sequence[str] = ()
    """Nodes the undo must not stand on."""

    @property
    def actions(self) -> list[Action]:
        """Every action, in the order they are applied."""
        return [*self.frame, *(action for stage in self.stages for action in stage.actions)]


@dataclass(frozen=True)
class Finding:
    """One objective beside what was measured."""

    objective: str
    measured: str
    limit: str
    held: bool


async def ask_all(probes: Sequence[Probe]) -> list[Observation]:
    """Every probe once, side by side."""
    return list(await asyncio.gather(*(probe.ask() for probe in probes)))


async def until_held(
    probes: Sequence[Probe],
    deadline_seconds: float,
    *,
    pause_seconds: float = 0.5,
    seen: Callable[[list[Observation]], None] = lambda _: None,
) -> list[Observation]:
    """Ask until all hold or the deadline passes; either way the last observations."""
    end = time.monotonic() + deadline_seconds
    while True:
        observations = await ask_all(probes)
        seen(observations)
        if all(observation.held for observation in observations) or time.monotonic() >= end:
            return observations
        await asyncio.sleep(min(pause_seconds, max(0.0, end - time.monotonic())))


def failed(observations: Sequence[Observation]) -> list[Observation]:
    """Those that did not hold."""
    return [observation for observation in observations if not observation.held]


async def until(condition: Callable[[], bool], deadline_seconds: float, *, pause_seconds: float = 0.1) -> bool:
    """Whether `condition` came true before the deadline."""
    end = time.monotonic() + deadline_seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(pause_seconds)
    return True


async def completed(task: asyncio.Future[Result]) -> Result:
    """The task's result, waited for to its end even when the waiter is cancelled; the cancellation comes after.

    For what must not stop half-way. The task carries its own deadline.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:  # noqa: BLE001  it is raised from the task below
            break
    if cancelled:
        raise asyncio.CancelledError
    return task.result()
