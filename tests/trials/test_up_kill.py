"""A strike is one only when it comes before the end of what it strikes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trials import up_kill
from trials.up_kill import CHANGE, CREATION, SOONER, TRIES, Strike, Trial


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Trial, list[float | None], list[float]]:
    """A trial, what its ups do one after the other, and after how many seconds each was to be struck."""
    ends: list[float | None] = []
    moments: list[float] = []

    def strike_up(_line: object, after: float) -> float | None:
        moments.append(after)
        return ends.pop(0)

    monkeypatch.setattr(up_kill, "strike_up", strike_up)
    monkeypatch.setattr(up_kill, "destroy", lambda _line: None)
    monkeypatch.setattr(up_kill, "held", lambda _home: Counter())
    line: Any = SimpleNamespace(home=tmp_path, tandem=lambda *_: "{}")
    return Trial(line, lambda _: None, Counter(), Counter(), {CREATION: 30.0}), ends, moments


def test_an_up_that_ended_before_its_strike_is_struck_once_more_and_sooner(
    struck: tuple[Trial, list[float | None], list[float]],
) -> None:
    trial, ends, moments = struck
    ends += [20.0, None]
    assert trial.run(Strike(CREATION, 0.9)) == []
    assert moments == [pytest.approx(27.0), pytest.approx(20.0 * 0.9 * SOONER)]
    assert CHANGE in trial.seconds, "an up without anything to do is what a change is measured by"


def test_one_that_always_ended_first_was_not_tried_and_says_so(
    struck: tuple[Trial, list[float | None], list[float]],
) -> None:
    trial, ends, _ = struck
    ends += [20.0] * TRIES
    assert "nothing was tried" in str(trial.run(Strike(CREATION, 0.9)))
