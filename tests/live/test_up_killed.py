"""`tandem up` dies half-way, and the next one brings everything where it should be. `make up-kill` does it 20 times."""

import random

import pytest

from tests.live.conftest import Line
from trials import line as trials_line
from trials import up_kill
from trials.inventory import held
from trials.up_kill import CHANGE, CREATION, Strike, Trial

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

CREATION_SECONDS = 20.0
"""On a machine with nothing else to do; the `up` of a busy one is struck earlier in its course."""


def test_an_up_that_died_is_made_good_by_the_next(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(line.home))
    chance = random.SystemRandom()
    driven = trials_line.Line(line.home, print)
    whole = held(line.home)
    up_kill.destroy(driven)
    trial = Trial(driven, print, held(line.home), whole, {CREATION: CREATION_SECONDS})
    for what in (CREATION, CHANGE, CHANGE):
        strike = Strike(what, chance.random())
        print(strike)
        assert trial.run(strike) == [], str(strike)
