"""Drills tried on themselves, with faster health checks: they hold, deviate and refuse when they should.

They have a lab of their own at other addresses: it may stand beside the one of the other live tests.
"""

import random
from collections.abc import Iterator

import pytest

from drills.drill import Verdict
from tests.live.conftest import whole_line
from trials import kill, table
from trials.line import Line
from trials.table import Row

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

BLOCKS = {"127.10": "127.60", "127.20": "127.61", "127.30": "127.62"}
ROWS = {row.name: row for row in table.ROWS}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, package: str) -> Iterator[Line]:
    """A line as trials drive it."""
    home = tmp_path_factory.mktemp("drills") / "home"
    with whole_line(home, package, BLOCKS) as line, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_HOME", str(line.home))
        yield Line(line.home, print)


def cells(row: Row, line: Line, *columns: str) -> dict[str, table.Cell]:
    return dict(table.fill(row, line, columns))


def test_a_drill_holds_on_a_healthy_lab(quick: Line) -> None:
    cell = cells(ROWS["pod-loss"], quick, "healthy")["healthy"]
    assert cell.verdict is Verdict.HELD, cell.reason


def test_a_drill_deviates_when_its_defence_is_off(quick: Line) -> None:
    cell = cells(ROWS["switchover-down"], quick, "defence off")["defence off"]
    assert cell.verdict is Verdict.DEVIATED, cell.reason
    assert "DNS dropped the site" in cell.missed


def test_a_drill_whose_action_does_nothing_is_not_run(quick: Line) -> None:
    cell = cells(ROWS["switchover-down"], quick, "action does nothing")["action does nothing"]
    assert cell.verdict is Verdict.NOT_RUN
    assert "the fault did not bite" in cell.reason


def test_a_drill_whose_undo_cannot_start_touches_nothing(quick: Line) -> None:
    cell = cells(ROWS["node-loss"], quick, "undo cannot start")["undo cannot start"]
    assert cell.verdict is Verdict.NOT_RUN
    assert "the undo does not stand in private" in cell.reason
    newest = max(kill.journals(), key=lambda path: path.stat().st_mtime)
    assert newest.name.partition("-")[2].startswith("node-loss")
    assert not kill.acted(newest)


def test_a_site_puts_back_what_a_drill_did_whose_host_died_or_was_cut_off(quick: Line) -> None:
    seed = random.SystemRandom().randrange(2**31)
    planned = kill.strikes(5, random.Random(seed))  # noqa: S311  moments, not secrets
    done = kill.carry_out(quick, planned, print)
    assert [(str(strike), wrong) for strike, wrong in done if wrong] == [], f"seed {seed}"
