"""The page and the scoreboard show objectives, classes and every failure, of any journal there is."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from drills.load import Outcome, Sample
from drills.measure import summary, timeline
from drills.report import percent, progress, rows, scoreboard, write


def sample(at: float, outcome: Outcome = Outcome.OK, client_class: str = "dns", source: str = "") -> Sample:
    site = "public" if outcome is Outcome.OK else None
    return Sample(at, at, at + 0.01, 0, client_class, site, "127.0.0.1", 200, outcome, None, "", source, "new")


def journal(**changed: Any) -> dict[str, Any]:
    before = [sample(90 + turn / 50, client_class=("dns", "dns-keepalive")[turn % 2]) for turn in range(500)]
    during = [sample(100 + turn / 50, Outcome.REFUSED if turn < 20 else Outcome.OK) for turn in range(500)]
    whole = before + during
    content = {
        "drill": "switchover",
        "env": "lab",
        "status": "deviated",
        "heading": "LAB: a rehearsal",
        "started": "2026-01-01T00:00:00+00:00",
        "revision": "abc",
        "reason": "too <slow>",
        "entries": [
            {
                "seconds": 1.0,
                "kind": "probe",
                "text": "steady",
                "observations": [{"probe": "p", "held": False, "detail": "<i>"}],
            }
        ],
        "findings": [{"objective": "recovery", "measured": "41.0 s", "limit": "<= 40 s", "held": False}],
        "measures": {
            "before": summary(before),
            "during": summary(during),
            "whole": summary(whole),
            "timeline": timeline(whole, 100.0),
            "stages": [
                {
                    "name": "site lost",
                    "broken": 0.0,
                    "bitten": 0.5,
                    "effect": 5.0,
                    "effect_word": "dropped",
                    "restored": 8.0,
                    "well": None,
                }
            ],
            "generator_lag": {"p50_ms": 0.4, "p99_ms": 2.0, "max_ms": 5.0, "budget_ms": 25.0},
            "digests": {"public": {"declared": "sha256:a", "answered": ["sha256:a"]}},
        },
    }
    return {**content, **changed}


class Tags(HTMLParser):
    """Checks that what opens is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002  the parser's word
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(tmp_path: Path, content: dict[str, Any]) -> str:
    text = write(content, tmp_path / "journal.html").read_text()
    tags = Tags()
    tags.feed(re.sub(r"<(rect|line)([^>]*)/>", r"<\1\2></\1>", text))
    assert not tags.open
    return text


def test_the_page_shows_objectives_classes_marks_and_failures_and_loads_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, journal())
    for said in ("41.0 s", "&lt;= 40 s", "dns-keepalive", ">dropped<", ">restored<", "20 refused", "25 ms at p99"):
        assert said in text, said
    assert "too &lt;slow&gt;" in text
    assert "&lt;i&gt;" in text
    assert not re.search(r"https?://|src=|href=|@import|url\(", text), "self-contained"


@pytest.mark.parametrize("status", ["held", "not run", "aborted", "open"])
def test_a_journal_without_measures_is_a_page_too(tmp_path: Path, status: str) -> None:
    bare = journal(status=status)
    for key in ("measures", "findings", "reason"):
        del bare[key]
    assert status in page(tmp_path, bare)
    assert status.upper() in printed(bare)


def test_a_load_without_failures_says_so(tmp_path: Path) -> None:
    whole = [sample(100 + turn / 50) for turn in range(50)]
    text = page(tmp_path, journal(measures={"whole": summary(whole), "timeline": timeline(whole, 100.0)}))
    assert "nothing failed" in text


def printed(content: dict[str, Any], width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    scoreboard(content, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_scoreboard_has_a_row_for_each_stretch_and_class() -> None:
    text = printed(journal(reason="missed [red]"))
    assert re.search(r"before +all +500 +0 +100.000 %", text)
    assert re.search(r"before +all.*\n +dns +250 +0 .*\n +dns-keepalive +250 +0 ", text)
    assert re.search(r"during +all +500 +20 +96.000 %", text)
    assert "during     dns" not in text, "one class alone is all users"
    assert "missed [red]" in text


def test_the_scoreboard_fits_a_terminal_of_80_columns() -> None:
    content = journal()
    del content["measures"]["digests"], content["measures"]["generator_lag"]
    assert printed(content, width=80) == printed(content), "no cell is cut off or broken over lines"


def test_users_behind_a_cut_are_rows() -> None:
    counted = summary([sample(1), sample(2, Outcome.TIMEOUT, source="127.84.7.1")])
    assert [users for _, users, _ in rows({"during": counted})] == ["all", "from 127.84.7.1", "from any"]


@pytest.mark.parametrize(
    ("share", "shown"), [(1.0, "100.000 %"), (0.999999, "99.999 %"), (0.5, "50.000 %"), (0.0, "0.000 %"), (None, "")]
)
def test_a_share_is_never_rounded_up_to_all(share: float | None, shown: str) -> None:
    assert percent(share) == shown


def test_progress_counts_the_last_seconds() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(progress("site lost", [], 0.0, None))
    assert isinstance(console.file, io.StringIO)
    assert "no answers" in console.file.getvalue()
