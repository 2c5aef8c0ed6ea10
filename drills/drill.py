"""The grammar of a drill: probes ask, actions change and know their undo, and a run ends in one of four words.

Errors: DrillError
          NotRun      nothing was proved: no steady state, no access, or the fault did not bite
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

Result = TypeVar("Result")


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


class DrillError(Exception):
    """A drill could not end in a proof either way."""


class NotRun(DrillError):  # noqa: N818  the word of the verdict
    """Nothing was proved: the message says what was missing."""


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
    """Changes one thing and knows how to put it back."""

    @property
    def name(self) -> str:
        """What is done to what."""
        ...

    async def prepare(self) -> dict[str, Any]:
        """The prior state as JSON: all that `undo` needs, also in another process. Changes nothing."""
        ...

    async def apply(self) -> None:
        """Make the change."""
        ...

    async def undo(self, prior: dict[str, Any]) -> None:
        """Put back what `apply` changed; harmless when nothing was changed."""
        ...


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
