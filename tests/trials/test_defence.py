"""Each defence that is switched off by an edit is still where the edit looks for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra import gateway
from trials import defence
from trials.defence import FILES, ROOMS, Defence, Edit
from trials.line import ROOT, Line, TrialError
from trials.table import ROWS

DEFENCES = [value for value in vars(defence).values() if isinstance(value, Defence)]
EDITS = [(one.name, edit) for one in DEFENCES for edit in one.edits]


def test_every_row_of_the_table_has_a_defence_that_is_looked_at_here() -> None:
    assert {row.defence.name for row in ROWS} == {one.name for one in DEFENCES}


@pytest.mark.parametrize(("name", "edit"), EDITS, ids=[f"{name}: {edit.old}" for name, edit in EDITS])
def test_every_edit_finds_its_one_place_in_a_program_that_is_copied(name: str, edit: Edit) -> None:
    assert Path(edit.file).parts[0] in (*ROOMS, *FILES), name
    assert (ROOT / edit.file).read_text(encoding="utf-8").count(edit.old) == 1
    assert edit.new != edit.old


@pytest.mark.parametrize("one", DEFENCES, ids=lambda one: one.name)
def test_a_program_with_a_defence_off_is_still_a_program(one: Defence) -> None:
    for edit in one.edits:
        text = (ROOT / edit.file).read_text(encoding="utf-8").replace(edit.old, edit.new)
        compile(text, edit.file, "exec")


def test_with_liveness_in_place_of_the_golden_answer_no_probe_of_the_gateway_asks_for_it() -> None:
    text = (ROOT / "infra/gateway.py").read_text(encoding="utf-8")
    for edit in defence.LIVENESS.edits:
        text = text.replace(edit.old, edit.new) if edit.file == "infra/gateway.py" else text
    assert set(re.findall(r"_probe=pod\.probe\((\w+),", text)) == {"LIVE_PATH"}
    [checked] = [edit.new for edit in defence.LIVENESS.edits if "resource_path" in edit.old]
    assert f'"{gateway.LIVE_PATH}"' in checked
    assert {"serving-private", "traffic"} <= set(defence.LIVENESS.stacks), "or an edit would never be brought up"


@dataclass(frozen=True)
class Recorder(Line):
    """A line that brings nothing up and notes out of which folder it would have been."""

    say: Callable[[str], None] = print
    ups: list[Path] = field(default_factory=list)

    def tandem(self, *arguments: str, root: Path = ROOT, expected: tuple[int, ...] = (0,)) -> str:
        assert (arguments[0], expected) == ("up", (0,))
        self.ups.append(root)
        return ""


def test_switching_off_edits_a_copy_and_brings_the_programs_themselves_up_afterwards(tmp_path: Path) -> None:
    line = Recorder(tmp_path)
    with defence.LIVENESS.off(line):
        [copy] = line.ups
        assert "pod.probe(READY_PATH," not in (copy / "infra/gateway.py").read_text(encoding="utf-8")
    assert line.ups == [copy, ROOT]
    assert "pod.probe(READY_PATH," in (ROOT / "infra/gateway.py").read_text(encoding="utf-8")


def test_an_edit_that_finds_nothing_is_refused(tmp_path: Path) -> None:
    stale = Edit("infra/gateway.py", "a line nobody wrote", "another")
    with (
        pytest.raises(TrialError, match="adapt the defence"),
        Defence(name="stale", stacks=("traffic",), edits=(stale,)).off(Recorder(tmp_path)),
    ):
        pass
