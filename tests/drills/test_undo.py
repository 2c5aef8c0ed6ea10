"""The undo that stands in a site: patient while it is renewed, at work when it is not, loud when it cannot."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from urllib3.exceptions import ProtocolError

from drills import undo
from drills.drill import DrillError
from drills.lease import RELEASED, RENEWED, State
from tests.drills.worlds import Breaks, World


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def watched(reads: Iterator[Mapping[str, str] | Exception], seconds: float = 10.0) -> tuple[str, float]:
    """How the wait ended and when; what comes after the last read is silence."""
    clock = Clock()
    last: Mapping[str, str] = {}

    def read() -> Mapping[str, str]:
        nonlocal last
        found = next(reads, last)
        if isinstance(found, Exception):
            raise found
        last = found
        return found

    return undo.watch(read, seconds, clock=clock, sleep=clock.sleep), clock.now


def test_a_lease_that_is_renewed_waits_as_long_as_it_takes() -> None:
    reads: list[Mapping[str, str] | Exception] = [{RENEWED: str(turn)} for turn in range(100)]
    ending, seconds = watched(iter([*reads, {RENEWED: "99", RELEASED: "true"}]))
    assert (ending, seconds) == ("released", 100.0)


def test_a_lease_nobody_renews_runs_out() -> None:
    ending, seconds = watched(iter([{RENEWED: "0"}, {RENEWED: "1"}]))
    assert ending == "expired"
    assert 10.0 < seconds <= 13.0, "counted from the last renewal"


def test_an_api_that_is_silent_brings_no_renewal() -> None:
    silence: list[Mapping[str, str] | Exception] = [ProtocolError("gone")] * 50
    ending, seconds = watched(iter([{RENEWED: "3"}, *silence]))
    assert (ending, seconds) == ("expired", 11.0)


def test_an_api_that_was_silent_for_a_moment_ends_no_lease() -> None:
    silence: list[Mapping[str, str] | Exception] = [ProtocolError("gone")] * 5
    ending, _ = watched(iter([{RENEWED: "3"}, *silence, {RENEWED: "4"}, {RENEWED: "4", RELEASED: "true"}]))
    assert ending == "released"


def test_everything_is_undone_in_reverse_and_only_where_something_is_left() -> None:
    first, second, idle = World(broken=True), World(broken=True), World()
    names: list[str] = []
    actions: list[tuple[Any, dict[str, Any]]] = [
        (Breaks(first, name="first"), {"broken": False}),
        (Breaks(second, name="second"), {"broken": False}),
        (Breaks(idle, name="idle"), {"broken": False}),
    ]
    first.log = second.log = idle.log = names
    assert asyncio.run(undo.put_back(actions, 5.0)) == []
    assert not first.broken
    assert not second.broken
    assert idle.undone == 0, "what did nothing is not undone"


def test_an_undo_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "RETRY_SECONDS", 0.01)
    world = World(broken=True, undo_fails=2)
    assert asyncio.run(undo.put_back([(Breaks(world), {"broken": False})], 5.0)) == []
    assert world.undone == 1


def test_what_cannot_be_undone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "RETRY_SECONDS", 0.01)
    world = World(broken=True, undo_fails=1_000_000)
    assert asyncio.run(undo.put_back([(Breaks(world), {"broken": False})], 0.1)) == ["the world is broken"]


def test_a_change_that_lands_late_is_undone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "RETRY_SECONDS", 0.01)
    world = World()
    threading.Timer(0.1, lambda: setattr(world, "broken", True)).start()
    assert asyncio.run(undo.put_back([(Breaks(world), {"broken": False})], 5.0, late_seconds=0.4)) == []
    assert (world.broken, world.undone) == (False, 1)


class Map:
    """A lease's ConfigMap that hears only every second word, and what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.calls = 0

    def say(self, state: str, why: str = "") -> None:
        self.calls += 1
        if self.calls % 2:
            raise ProtocolError("gone")
        self.said.append(state + why)


def test_it_says_that_it_undoes_before_it_does_and_an_api_that_is_silent_keeps_it_from_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(undo, "RETRY_SECONDS", 0.01)
    world, kept = World(broken=True), Map()
    world.log = kept.said
    assert asyncio.run(undo.undone(kept, [(Breaks(world), {"broken": False})], 0.0)) == []  # type: ignore[arg-type]  # a map
    assert kept.said == [State.UNDOING, "undo"]

    def deaf(*_: object) -> None:
        raise ProtocolError("gone")

    monkeypatch.setattr(undo, "API_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(kept, "say", deaf)
    world.broken = True
    assert asyncio.run(undo.undone(kept, [(Breaks(world), {"broken": False})], 0.0)) == []  # type: ignore[arg-type]  # a map


def test_a_residue_that_cannot_be_asked_about_counts_as_one() -> None:
    class Deaf(Breaks):
        async def residue(self, _: dict[str, Any]) -> list[str]:
            raise DrillError("the API is away")

    assert asyncio.run(undo.residue([(Deaf(World()), {})])) == ["the API is away"]
