"""The grammar: probes are asked until they hold or the deadline passes, and four words are four exit codes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from drills import run as run_module
from drills.actions.network_chaos import Leave
from drills.drill import (
    Abort,
    Drill,
    DrillError,
    NotRun,
    Observation,
    Verdict,
    completed,
    failed,
    until,
    until_held,
)
from drills.lease import State
from tests.drills.worlds import Asks, Breaks, Play, Stands, World


@dataclass
class Scripted:
    """A probe that answers from a list and then repeats its last answer."""

    answers: list[bool]
    name: str = "scripted"
    asked: int = field(default=0)

    async def ask(self) -> Observation:
        self.asked += 1
        held = self.answers[min(self.asked, len(self.answers)) - 1]
        return Observation(self.name, held=held, detail=f"asked {self.asked} times")


def test_each_verdict_has_its_own_exit_code() -> None:
    assert {str(verdict): verdict.exit_code for verdict in Verdict} == {
        "held": 0,
        "deviated": 1,
        "not run": 2,
        "aborted": 3,
    }


async def test_probes_are_asked_again_until_all_hold() -> None:
    slow, quick = Scripted([False, False, True], "slow"), Scripted([True], "quick")
    seen = await until_held([slow, quick], deadline_seconds=10, pause_seconds=0)
    assert not failed(seen)
    assert slow.asked == 3


async def test_a_deadline_keeps_the_last_observation() -> None:
    seen = await until_held([Scripted([False])], deadline_seconds=0.05, pause_seconds=0.01)
    assert [observation.held for observation in seen] == [False]
    assert "asked" in str(seen[0])


async def test_probes_are_asked_at_least_once_even_with_no_time() -> None:
    probe = Scripted([True])
    assert not failed(await until_held([probe], deadline_seconds=0))
    assert probe.asked == 1


async def test_waiting_for_a_condition_ends_at_its_deadline() -> None:
    assert await until(lambda: True, deadline_seconds=1)
    assert not await until(lambda: False, deadline_seconds=0.02, pause_seconds=0.005)


async def test_what_must_not_stop_half_way_is_finished_before_the_cancellation_comes() -> None:
    done: list[str] = []

    async def work() -> str:
        await asyncio.sleep(0.1)
        done.append("work")
        return "result"

    waiting = asyncio.create_task(completed(asyncio.ensure_future(work())))
    for _ in range(3):
        await asyncio.sleep(0.01)
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == ["work"]
    assert await completed(asyncio.ensure_future(work())) == "result"


# A run that meets what a healthy world never shows.


@dataclass
class Altered(Play):
    """The same drill with something changed."""

    change: Callable[[Drill], Drill] = lambda drill: drill

    def drill(self) -> Drill:
        return self.change(super().drill())


def in_stage(**changed: Any) -> Callable[[Drill], Drill]:
    return lambda drill: replace(drill, stages=[replace(stage, **changed) for stage in drill.stages])


async def test_an_undo_that_fails_keeps_no_other_back(tmp_path: Path) -> None:
    stuck, world = World(undo_fails=1_000_000), World()
    actions = [Breaks(world), Breaks(stuck, name="stuck"), Breaks(world, name="another")]
    with pytest.raises(DrillError, match="stuck: not undone"):
        await Altered(tmp_path, world, change=in_stage(actions=actions)).play()
    assert world.undone == 2
    assert not world.broken


async def test_a_defect_in_one_undo_keeps_no_other_back(tmp_path: Path) -> None:
    class Defect(Breaks):
        async def undo(self, prior: dict[str, Any]) -> None:
            raise KeyError(f"no replicas in {prior}")

    world, stuck = World(), World()
    play = Altered(tmp_path, world, change=in_stage(actions=[Breaks(world), Defect(stuck, name="defect")]))
    with pytest.raises(DrillError, match="defect: not undone: KeyError"):
        await play.play()
    assert not world.broken
    assert not play.journal.clean


async def test_nothing_is_changed_once_the_undo_waits_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stands, "lost", property(lambda _: True))
    play = Play(tmp_path)
    with pytest.raises(Abort, match="the undo in private waits no more: nothing is changed without it"):
        await play.play()
    assert play.world.applied == 0


async def test_each_change_needs_a_lease_that_was_just_renewed_and_lasts_longer_than_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(tmp_path / "short", World(lease_left_seconds=10.0))
    with pytest.raises(Abort, match="the lease in private has 10 s left, a change may take 10 s"):
        await play.play()
    assert play.world.applied == 0

    async def refused(_: Stands) -> None:
        raise DrillError("too late: the undo there is undoing")

    monkeypatch.setattr(Stands, "renew", refused)
    play = Play(tmp_path / "refused")
    with pytest.raises(Abort, match="nothing is changed without the undo in private: too late"):
        await play.play()
    assert play.world.applied == 0


async def test_what_goes_on_by_itself_asks_before_each_change(tmp_path: Path) -> None:
    class Goes(Breaks):
        leave = Leave()

    world = World()
    play = Altered(tmp_path, world, change=in_stage(actions=[Goes(world)]))
    await play.play()
    world.lease_is_lost = True
    with pytest.raises(Abort, match="the undo in private waits no more"):
        await Goes.leave.ask()


async def test_leases_are_renewed_while_the_next_one_is_put_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = asyncio.Event()

    async def keep(_: Stands) -> None:
        kept.set()
        await asyncio.sleep(3600)

    async def stand(lease: Stands, undos: object) -> None:
        if lease.site == "public":
            await asyncio.wait_for(kept.wait(), 30)

    monkeypatch.setattr(Stands, "keep", keep)
    monkeypatch.setattr(Stands, "stand", stand)
    play = Play(tmp_path)
    world, original = play.world, run_module.Course

    def course(**given: Any) -> Any:
        return original(**{**given, "leases": [Stands(world), Stands(world, "public")]})

    monkeypatch.setattr("tests.drills.worlds.Course", course)
    assert (await play.play()).verdict is Verdict.HELD


async def test_what_has_to_hold_throughout_is_asked_from_the_bite_on(tmp_path: Path) -> None:
    world = World()
    shaky = Asks("DNS leads", lambda: not world.broken)
    play = Altered(tmp_path, world, change=in_stage(throughout=[shaky]))
    await play.play()
    [moments] = play.course.evidence.stages
    assert moments.looks > 0
    assert str(moments.breaches[0]) == "DNS leads: asked"


async def test_a_frame_that_falls_away_during_the_drill_proves_nothing(tmp_path: Path) -> None:
    world, framed = World(), World()

    def change(drill: Drill) -> Drill:
        there = Asks("the frame", lambda: framed.broken and not world.undone)
        return replace(drill, frame=[Breaks(framed, name="frame")], frame_symptom=there)

    play = Altered(tmp_path, world, change=change)
    with pytest.raises(NotRun, match="the fault did not last: the frame"):
        await play.play()
    assert framed.undone == 1
    assert play.journal.clean


async def test_a_frame_that_is_there_already_proves_nothing(tmp_path: Path) -> None:
    world, framed = World(), World()

    def change(drill: Drill) -> Drill:
        return replace(drill, frame=[Breaks(framed, name="frame")], frame_symptom=Asks("the frame", lambda: True))

    with pytest.raises(NotRun, match="was there before anything was done: the frame"):
        await Altered(tmp_path, world, change=change).play()
    assert (framed.applied, world.applied) == (0, 0)


async def test_a_probe_that_breaks_while_it_watches_aborts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "ABORT_LOOK_SECONDS", 0.02)

    def defect() -> bool:
        raise ValueError("defect")

    play = Altered(
        tmp_path, World(is_dropped=False), change=lambda drill: replace(drill, abort=[Asks("watch", defect)])
    )
    with pytest.raises(Abort, match="what has to hold cannot be watched: ValueError: defect"):
        await play.play()
    assert play.world.undone == 1
    assert play.journal.clean


async def test_a_lease_whose_release_fails_is_told_and_the_journal_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def release(_: Stands) -> str:
        raise KeyError(State.CLEAN)

    monkeypatch.setattr(Stands, "release", release)
    play = Play(tmp_path)
    result = await play.play()
    assert result.verdict is Verdict.DEVIATED
    assert "the lease in private is not released and undoes by itself" in result.reason
    assert not play.journal.clean
