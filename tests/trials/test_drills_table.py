"""The table calls a cell right only when the drill ended as it should for the reason it should."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drills import catalogue, node_loss
from drills.choice import Choice
from drills.drill import NotRun, Verdict
from drills.evidence import Evidence, Moments
from drills.journal import Journal
from drills.load import LATE
from tests.drills.worlds import a_deployment
from trials import table
from trials.table import NO_BITE, NO_UNDO, ROWS, Cell, Row


def a_cell(expected: Verdict, verdict: Verdict, reason: str = "", **given: Any) -> Cell:
    return Cell(expected, verdict, reason, 1.0, **given)


@pytest.mark.parametrize(
    ("cell", "right"),
    [
        (a_cell(Verdict.HELD, Verdict.HELD), True),
        (a_cell(Verdict.HELD, Verdict.DEVIATED), False),
        (a_cell(Verdict.NOT_RUN, Verdict.NOT_RUN, "the fault did not bite: x", because=NO_BITE), True),
        (a_cell(Verdict.NOT_RUN, Verdict.NOT_RUN, "no steady state to start from", because=NO_BITE), False),
        (a_cell(Verdict.NOT_RUN, Verdict.NOT_RUN, "the undo does not stand in private", because=NO_UNDO), True),
        (a_cell(Verdict.NOT_RUN, Verdict.NOT_RUN, "the fault did not bite", because=NO_UNDO), False),
        (a_cell(Verdict.DEVIATED, Verdict.DEVIATED, because=("a", "b"), missed=("b", "c")), True),
        (a_cell(Verdict.DEVIATED, Verdict.DEVIATED, "a: missed", because=("a",), missed=("c",)), False),
        (a_cell(Verdict.DEVIATED, Verdict.HELD, because=("a",), missed=("a",)), False),
    ],
)
def test_a_cell_is_right_for_its_reason_only(cell: Cell, *, right: bool) -> None:
    assert cell.right is right
    assert json.loads(json.dumps(cell.document()))["right"] is right


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_row_names_objectives_its_drill_has(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    port = SimpleNamespace(container_port=8080)
    pod = SimpleNamespace(
        metadata=SimpleNamespace(name="a", deletion_timestamp=None),
        spec=SimpleNamespace(node_name="n1", containers=[SimpleNamespace(ports=[port])]),
    )
    node = SimpleNamespace(
        metadata=SimpleNamespace(name="n1", deletion_timestamp=None),
        spec=SimpleNamespace(provider_id="metal3://default/host/m"),
    )
    core = SimpleNamespace(
        list_namespaced_pod=lambda *_, **__: SimpleNamespace(items=[pod]), read_node=lambda *_, **__: node
    )
    monkeypatch.setattr(node_loss, "cluster", lambda *_: SimpleNamespace(core=core))
    deployment = a_deployment(health_interval_seconds=1)
    drill = catalogue.find(row.drill, deployment, Choice(site="private", fault=row.fault))
    seen = Evidence(deployment, "private")
    seen.stages = [Moments("lost", 1.0, restored=2.0)]
    named = {objective(seen).objective for objective in drill.objectives}
    assert row.missed
    assert set(row.missed) <= named


def test_what_a_run_missed_is_kept_with_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "drain", "lab", {})
    found = [
        {"objective": "wrong answers", "measured": "0", "limit": "0", "held": True},
        {"objective": table.DROPPED, "measured": "no", "limit": "yes", "held": False},
    ]
    journal.end(Verdict.DEVIATED, "deviated", [SimpleNamespace(**each) for each in found], {})  # type: ignore[misc]
    monkeypatch.setattr(table.session, "execute", lambda *_: journal)
    cell = table.play(ROWS[0], Verdict.DEVIATED, table.session.Make(), print, ROWS[0].missed)
    assert cell.missed == (table.DROPPED,)
    assert cell.right


def test_a_run_that_is_refused_has_missed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotRun("lab is locked by eve")

    monkeypatch.setattr(table.session, "execute", refuse)
    cell = table.play(ROWS[0], Verdict.NOT_RUN, table.session.Make(), print, NO_BITE)
    assert cell.missed == ()
    assert not cell.right


@pytest.mark.parametrize(("late", "verdict"), [(2, Verdict.HELD), (9, Verdict.NOT_RUN)])
def test_a_run_whose_users_were_late_is_played_again_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, late: int, verdict: Verdict
) -> None:
    ends = iter([{"status": "not run", "reason": f"{LATE}: 90 ms", "findings": []}] * late)
    held = {"status": "held", "reason": "", "findings": []}
    monkeypatch.setattr(table.session, "execute", lambda *_: SimpleNamespace(content=next(ends, held)))
    assert table.play(ROWS[0], Verdict.HELD, table.session.Make(), print).verdict is verdict
    assert len(list(ends)) == max(0, late - table.TRIES)


def test_a_drill_that_is_stopped_stops_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"status": "aborted", "reason": "stopped from outside; nothing is left changed", "findings": []}
    monkeypatch.setattr(table.session, "execute", lambda *_: SimpleNamespace(content=content))
    with pytest.raises(KeyboardInterrupt):
        table.play(ROWS[0], Verdict.HELD, table.session.Make(), print)
    content["reason"] = "survivors: ill; nothing is left changed"
    assert table.play(ROWS[0], Verdict.HELD, table.session.Make(), print).verdict is Verdict.ABORTED
