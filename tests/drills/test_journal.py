"""A journal is on disk before anything is changed, and tells what was not put back."""

import json
from pathlib import Path

from drills.drill import Finding, Observation, Verdict
from drills.journal import OPEN, Journal, unfinished

UNDO = {"kind": "scale-to-zero", "arguments": {"site": "private"}, "prior": {"gateway": 2}}


def test_a_journal_round_trips_with_what_was_asked_done_and_seen(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "switchover-down", "lab", {"rate_per_second": 50}, "Z")
    journal.observed("steady state before", [Observation("golden answer of private", held=True, detail="sha256:1")])
    journal.entry("action", "scale to zero", phase_seconds=3.2)
    journal.end(Verdict.HELD, "recovered", [Finding("wrong answers", "0", "0", held=True)], {"recovery_seconds": 12.5})
    content = json.loads(journal.path.read_text())
    assert content["status"] == "held"
    assert content["entries"][0]["observations"] == [
        {"probe": "golden answer of private", "held": True, "detail": "sha256:1"}
    ]
    assert content["entries"][1]["phase_seconds"] == 3.2
    assert content["measures"] == {"recovery_seconds": 12.5}
    assert content["heading"].startswith("LAB"), "lab numbers are called lab numbers"


def test_a_journal_of_a_killed_drill_is_open_and_carries_its_undo(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "switchover-down", "lab", {}, "Z")
    journal.undo_stands([UNDO])
    left = unfinished(tmp_path, "Z")
    assert left == [journal.path]
    content = json.loads(left[0].read_text())
    assert content["status"] == OPEN
    assert content["undo"]["actions"] == [UNDO]


def test_a_journal_whose_undo_was_carried_out_is_not_unfinished(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "switchover-down", "lab", {}, "Z")
    journal.undo_stands([UNDO])
    journal.undone()
    assert unfinished(tmp_path, "Z") == []


def test_a_drill_that_changed_nothing_leaves_nothing_to_undo(tmp_path: Path) -> None:
    Journal(tmp_path, "switchover-down", "lab", {}, "Z")
    assert unfinished(tmp_path, "Z") == []


def test_a_deployment_that_is_gone_leaves_nothing_to_undo(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "switchover-down", "lab", {}, "Z")
    journal.undo_stands([UNDO])
    assert unfinished(tmp_path, "another zone") == []


def test_a_broken_file_hides_no_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "switchover-down", "lab", {}, "Z")
    journal.undo_stands([UNDO])
    (tmp_path / "0.json").write_text("half a fi")
    (tmp_path / "1.json").write_text("[1]")
    (tmp_path / "2.json").write_bytes(bytes([0xFF]))
    (tmp_path / "3.json").write_text(json.dumps({"format": 2}))
    assert unfinished(tmp_path, "Z") == [journal.path]
