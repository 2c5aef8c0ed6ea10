"""A drill's run from its four words backwards: when it holds, and every way it must not."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from drills import run as run_module
from drills.drill import Abort, Drill, DrillError, NotRun, Verdict, until
from drills.journal import unfinished
from drills.lease import State
from drills.load import Sample
from tests.drills.worlds import Play, World


async def test_a_healthy_system_holds_and_is_put_back(tmp_path: Path) -> None:
    play = Play(tmp_path)
    result = await play.play()
    assert result.verdict is Verdict.HELD, result.reason
    assert (play.world.applied, play.world.undone) == (1, 1)
    assert play.journal.clean


async def test_the_undo_stands_before_anything_is_touched_and_is_released_after(tmp_path: Path) -> None:
    play = Play(tmp_path)
    await play.play()
    assert play.world.log == ["lease stands", "apply", "undo", "lease released"]


async def test_each_stage_is_broken_and_put_back(tmp_path: Path) -> None:
    play = Play(tmp_path, World(hurts=1), stages=2)
    result = await play.play()
    assert result.verdict is Verdict.HELD, result.reason
    assert play.world.log == ["lease stands", "apply", "undo", "apply", "undo", "lease released"]
    assert len(play.course.evidence.stages) == 2


async def test_without_a_steady_state_nothing_is_touched(tmp_path: Path) -> None:
    play = Play(tmp_path, steady=lambda: False)
    with pytest.raises(NotRun, match="no steady state to start from: steady: asked"):
        await play.play()
    assert play.world.log == []


async def test_an_undo_that_cannot_be_put_up_keeps_everything_untouched(tmp_path: Path) -> None:
    play = Play(tmp_path, World(lease_stands=False))
    with pytest.raises(NotRun, match="its image cannot be pulled"):
        await play.play()
    assert play.world.applied == 0


async def test_failures_before_the_fault_are_no_drill(tmp_path: Path) -> None:
    play = Play(tmp_path, World(failing_before=True))
    with pytest.raises(NotRun, match="failed before anything was broken, the first: http_5xx"):
        await play.play()
    assert play.world.log == ["lease stands", "lease released"]


async def test_a_fault_that_does_not_bite_is_not_run_and_still_undone(tmp_path: Path) -> None:
    play = Play(tmp_path, World(bites=False))
    with pytest.raises(NotRun, match="the fault did not bite"):
        await play.play()
    assert play.world.undone == 1
    assert play.journal.clean


async def test_a_symptom_that_is_there_before_anything_was_done_proves_nothing(tmp_path: Path) -> None:
    play = Play(tmp_path, World(broken=True, hurts=0))
    with pytest.raises(NotRun, match="the symptom was there before anything was done: symptom: asked"):
        await play.play()
    assert play.world.applied == 0
    assert play.journal.clean


async def test_the_symptom_of_one_stage_has_to_go_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "LOOK_SECONDS", 0.01)

    class Lingers(Play):
        linger_looks = 5

        def drill(self) -> Drill:
            made = super().drill()

            def there() -> bool:
                if self.world.undone == 1 and not self.world.broken and self.linger_looks > 0:
                    self.linger_looks -= 1
                    return True
                return self.world.broken

            stages = [replace(stage, symptom=self.probe("symptom", there)) for stage in made.stages]
            return replace(made, stages=stages)

    play = Lingers(tmp_path / "short", World(hurts=1), stages=2)
    result = await play.play()
    assert result.verdict is Verdict.HELD, result.reason
    assert play.linger_looks == 0
    monkeypatch.setattr(run_module, "GONE_SECONDS", 0.05)
    play = Lingers(tmp_path / "long", World(hurts=1), stages=2)
    play.linger_looks = 1_000_000
    with pytest.raises(NotRun, match="the symptom was there before anything was done"):
        await play.play()
    assert (play.world.applied, play.world.undone) == (1, 1)


async def test_an_action_that_fails_half_way_is_undone(tmp_path: Path) -> None:
    play = Play(tmp_path, raises=True)
    with pytest.raises(DrillError, match="half done"):
        await play.play()
    assert play.world.undone == 1
    assert play.journal.clean


@pytest.mark.parametrize("error", [SystemExit(1), OSError("the terminal is gone")])
async def test_a_terminal_that_goes_away_keeps_nothing_from_being_put_back(
    tmp_path: Path, error: BaseException
) -> None:
    play = Play(tmp_path)

    def progress(phase: str, _: object) -> None:
        if phase == "restoring":
            raise error

    play.progress = progress
    result = await play.play()
    assert result.verdict is Verdict.HELD, result.reason
    assert play.world.log == ["lease stands", "apply", "undo", "lease released"]


async def test_an_undo_is_tried_again_until_it_is_done(tmp_path: Path) -> None:
    play = Play(tmp_path, World(undo_fails=2))
    result = await play.play()
    assert result.verdict is Verdict.HELD, result.reason
    assert play.world.undone == 1


async def test_an_undo_that_never_succeeds_is_loud_and_stays_in_the_journal(tmp_path: Path) -> None:
    play = Play(tmp_path, World(undo_fails=1_000_000))
    with pytest.raises(DrillError, match="the API is away"):
        await play.play()
    assert not play.journal.clean
    assert unfinished(tmp_path, "") == [play.journal.path]
    kept = json.loads(play.journal.path.read_text())["undo"]["actions"]
    assert kept == [{"kind": "break", "arguments": {"site": "private"}, "prior": {"broken": False}}]


async def test_a_lease_that_found_something_left_is_told(tmp_path: Path) -> None:
    result = await Play(tmp_path, World(lease_ends=State.FAILED)).play()
    assert result.verdict is Verdict.DEVIATED
    assert "left behind by the drill: the undo in private ended failed" in result.reason


async def test_a_survivor_that_falls_ill_aborts_and_everything_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "ABORT_LOOK_SECONDS", 0.02)
    play = Play(tmp_path, World(survivors_well=False, is_dropped=False))
    with pytest.raises(Abort, match="survivors: asked"):
        await play.play()
    assert play.world.undone == 1
    assert play.journal.clean


async def test_a_lease_that_cannot_be_renewed_aborts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "ABORT_LOOK_SECONDS", 0.02)
    play = Play(tmp_path, World(lease_is_lost=True, is_dropped=False))
    with pytest.raises(Abort, match="the lease in private could not be renewed"):
        await play.play()
    assert play.world.undone == 1


@pytest.mark.parametrize(
    ("world", "missed"),
    [
        (World(switches=False), "answers of the survivors after recovery: 0"),
        (World(heals=False), "failures after restoration"),
        (World(hurts=0), "requests the fault hurt: 0"),
        (World(mends_itself=True), "fault still there when it was lifted: no"),
        (World(is_dropped=False), "DNS dropped the site: no"),
        (World(still_answers=True), "answers of the survivors after recovery: 0"),
    ],
    ids=["no second site", "a second outage", "nobody hurt", "the fault lifts itself", "DNS keeps it", "a ghost"],
)
async def test_a_system_without_its_defence_deviates(tmp_path: Path, world: World, missed: str) -> None:
    result = await Play(tmp_path, world).play()
    assert result.verdict is Verdict.DEVIATED
    assert missed in result.reason


async def test_a_load_that_was_late_is_no_evidence(tmp_path: Path) -> None:
    result = await Play(tmp_path, refusal="the load generator was late").play()
    assert result.verdict is Verdict.NOT_RUN
    assert "the load generator was late" in result.reason


async def test_a_wrong_answer_is_never_a_success(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="the first: wrong"):
        await Play(tmp_path, World(wrong_answers=True)).play()


async def test_a_second_signal_does_not_stop_the_undo(tmp_path: Path) -> None:
    play = Play(tmp_path, World(undo_fails=3))
    task = asyncio.create_task(play.play())
    assert await until(lambda: play.world.applied > 0, 30, pause_seconds=0.01)
    task.cancel()
    assert await until(lambda: play.world.undo_fails < 3, 30, pause_seconds=0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert play.world.undone == 1
    assert play.journal.clean


async def test_every_request_is_kept_beside_the_journal(tmp_path: Path) -> None:
    play = Play(tmp_path)
    result = await play.play()
    kept = [Sample.from_json(line) for line in play.journal.samples.read_text().splitlines()]
    assert len(kept) == result.measures["whole"]["requests"]


async def test_a_cancelled_drill_puts_back_what_it_changed(tmp_path: Path) -> None:
    play = Play(tmp_path)
    task = asyncio.create_task(play.play())
    assert await until(lambda: play.world.applied > 0, 30, pause_seconds=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert play.world.undone == 1
    assert play.journal.clean
