"""Strikes come while something is broken, and what the lease says has to fit what was struck."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from drills.drill import DrillError
from drills.journal import Journal
from drills.lease import State
from trials import kill
from trials.kill import ACTION, DRILLS, HOW, STANDING, Strike, Trial

RUN_OUT = "standing\nthe lease has run out: nobody renewed it\n{}nothing of the drill is left"
UNDID = RUN_OUT.format("undoing: scale to zero\nundone: scale to zero\n")
IDLE = RUN_OUT.format("")


def struck(after: str) -> Strike:
    return Strike("switchover", "down", "kill -9", after, 2.0)


class Answers:
    """A lease as it is found after a strike."""

    name = "drill-x"

    def __init__(self, state: str | DrillError, log: str = "") -> None:
        self._state, self._log = state, log

    async def ended(self, _: float) -> str:
        if isinstance(self._state, DrillError):
            raise self._state
        return self._state

    async def log(self) -> str:
        return self._log


def refused(status: int) -> DrillError:
    class ApiError(Exception):
        def __init__(self) -> None:
            super().__init__(f"{status} of port 40400")
            self.status = status

    error = DrillError(f"private: {status} 404")
    error.__cause__ = ApiError()
    return error


def outlived(strike: Strike, lease: Answers, *, ended_before: bool = False) -> list[str]:
    unused: Any = None
    found: Any = lease
    return asyncio.run(Trial(unused, unused, lambda _: None)._outlived(strike, found, ended_before=ended_before))


def test_most_strikes_come_after_the_action_and_some_before_it() -> None:
    planned = kill.strikes(20, random.Random(1))  # noqa: S311  moments, not secrets
    early = [strike for strike in planned if strike.after == STANDING]
    assert len(early) == 4
    assert {(strike.drill, strike.how) for strike in planned if strike.after == ACTION} == {
        (drill, how) for drill, _, _ in DRILLS for how in HOW
    }
    broken = {drill: seconds for drill, _, seconds in DRILLS}
    for strike in planned:
        longest = kill.BEFORE_ACTION_SECONDS if strike in early else broken[strike.drill]
        assert 0 <= strike.after_seconds <= longest
        assert strike in early or strike.after_seconds >= kill.BEGUN_SECONDS
    assert [strike.after for strike in kill.strikes(5, random.Random(2))].count(ACTION) == 4  # noqa: S311


def test_a_strike_says_after_which_moment_it_came() -> None:
    assert str(struck(ACTION)) == "switchover down: kill -9 2.0 s after its first action"
    assert str(struck(STANDING)) == "switchover down: kill -9 2.0 s after its undo stands"


def test_what_was_broken_has_to_be_undone_by_the_lease() -> None:
    assert outlived(struck(ACTION), Answers(State.UNDONE, UNDID)) == []
    [wrong] = outlived(struck(ACTION), Answers(State.UNDONE, IDLE))
    assert "does not say that it undid anything" in wrong
    assert outlived(struck(ACTION), Answers(State.CLEAN, UNDID)) == ["the undo ended 'clean'"]
    assert outlived(struck(ACTION), Answers(State.FAILED, ""))


def test_before_the_action_there_is_nothing_to_undo() -> None:
    assert outlived(struck(STANDING), Answers(State.UNDONE, IDLE)) == []
    assert outlived(struck(STANDING), Answers(State.CLEAN, "released")) == []
    assert outlived(struck(STANDING), Answers(State.UNDONE, "standing"))


def test_only_a_lease_that_was_released_before_the_strike_may_be_gone() -> None:
    assert outlived(struck(STANDING), Answers(refused(404)), ended_before=True) == []
    for error, ended_before in ((refused(404), False), (refused(500), True)):
        [wrong] = outlived(struck(STANDING), Answers(error), ended_before=ended_before)
        assert "the lease cannot be read" in wrong
    [wrong] = outlived(struck(ACTION), Answers(refused(404)), ended_before=True)
    assert "nothing was tried" in wrong


def test_an_action_is_begun_once_the_journal_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill.session, "folder_of", lambda _: tmp_path)
    journal = Journal(tmp_path, "node-loss", "lab", {})
    journal.entry("lease", "the undo stands in private")
    assert kill.journals() == {journal.path}
    assert not kill.acted(journal.path)
    journal.entry("action", "power off")
    assert kill.acted(journal.path)
