"""Who is let in: every condition by itself, each seen refusing once."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drills import guard
from drills.drill import Drill, Level, Observation
from drills.guard import Guard, Rules, newest_held, refusals
from signals.arming import Armed
from tests.drills.worlds import Play, World, a_deployment

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STRICT = Rules.of("prod")


def a_drill(**changed: Any) -> Drill:
    from dataclasses import replace

    return replace(Play(Path("unused"), World()).drill(), **changed)


def armed(**changed: Any) -> Armed:
    until = (NOW + timedelta(minutes=30)).isoformat()
    given = {"token": "t", "env": "lab", "level": "live", "drill": "trial", "who": "ann@a", "until": until}
    return Armed(**{**given, "approved_by": "bob@b", **changed})


@pytest.fixture(autouse=True)
def clusters(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Namespaces' label, as each site's cluster gives it."""
    labels = {"private": "lab", "public": "lab"}

    def cluster(_: object, site: str) -> Any:
        metadata = SimpleNamespace(labels={guard.ENVIRONMENT_LABEL: labels[site]})
        return SimpleNamespace(core=SimpleNamespace(read_namespace=lambda *_, **__: SimpleNamespace(metadata=metadata)))

    monkeypatch.setattr(guard, "cluster", cluster)
    return labels


async def refused(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    token: Armed | None = None,
    level: Level = Level.LIVE,
    rules: Rules = STRICT,
    drill: Drill | None = None,
    **measured: Any,
) -> list[str]:
    """Names of the conditions that do not hold."""
    monkeypatch.setattr(guard, "read", lambda *_: token)
    asked = Guard(
        deployment=a_deployment(),
        drill=drill or a_drill(),
        level=level,
        rules=rules,
        folder=folder,
        token="t" if token else "",
        **measured,
    )
    return [each.probe for each in refusals(await asked.ask(NOW))]


@pytest.fixture
def rehearsed(tmp_path: Path) -> Path:
    """Journals with a drain drill that was held yesterday."""
    ended = (NOW - timedelta(days=1)).isoformat()
    (tmp_path / "a.json").write_text(json.dumps({"drill": "drain", "status": "held", "ended": ended}))
    return tmp_path


async def test_an_armed_approved_and_rehearsed_drill_is_let_in(
    monkeypatch: pytest.MonkeyPatch, rehearsed: Path
) -> None:
    assert await refused(monkeypatch, rehearsed, token=armed()) == []


@pytest.mark.parametrize(
    ("token", "condition"),
    [
        (None, "armed"),
        (armed(until=(NOW - timedelta(seconds=1)).isoformat()), "armed"),
        (armed(env="prod"), "armed"),
        (armed(level="shadow"), "armed"),
        (armed(drill="another"), "armed"),
        (armed(approved_by=""), "a second person agreed"),
    ],
    ids=["none", "expired", "another environment", "another level", "another drill", "nobody agreed"],
)
async def test_a_token_that_does_not_fit_keeps_it_out(
    monkeypatch: pytest.MonkeyPatch, rehearsed: Path, token: Armed | None, condition: str
) -> None:
    assert condition in await refused(monkeypatch, rehearsed, token=token)


async def test_a_live_drill_needs_a_fresh_drain_drill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    condition = "a drain drill was held in the last 7 days"
    assert await refused(monkeypatch, tmp_path, token=armed()) == [condition]
    old = (NOW - timedelta(days=8)).isoformat()
    (tmp_path / "a.json").write_text(json.dumps({"drill": "drain", "status": "held", "ended": old}))
    assert await refused(monkeypatch, tmp_path, token=armed()) == [condition]
    (tmp_path / "b.json").write_text(json.dumps({"drill": "drain", "status": "deviated", "ended": NOW.isoformat()}))
    assert await refused(monkeypatch, tmp_path, token=armed()) == [condition], "one that deviated proves nothing"


async def test_a_shadow_drill_needs_no_second_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = armed(level="shadow", approved_by="")
    assert await refused(monkeypatch, tmp_path, token=token, level=Level.SHADOW) == []


async def test_a_drill_that_hurts_people_does_not_run_at_level_shadow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    live_only = a_drill(levels=frozenset({Level.LIVE}))
    found = await refused(monkeypatch, tmp_path, token=armed(level="shadow"), level=Level.SHADOW, drill=live_only)
    assert found == ["the drill runs at this level"]


async def test_clusters_of_another_environment_keep_it_out(
    monkeypatch: pytest.MonkeyPatch, rehearsed: Path, clusters: dict[str, str]
) -> None:
    clusters["public"] = "prod"
    assert await refused(monkeypatch, rehearsed, token=armed()) == ["outputs and clusters are of this environment"]


async def test_a_lack_of_headroom_or_budget_keeps_it_out(monkeypatch: pytest.MonkeyPatch, rehearsed: Path) -> None:
    async def short() -> Observation:
        return Observation("headroom", held=False, detail="80 of 60 requests/s")

    async def spent() -> Observation:
        return Observation("error budget", held=False, detail="spent")

    found = await refused(monkeypatch, rehearsed, token=armed(), headroom=short, budget=spent)
    assert found == ["headroom", "error budget"]


async def test_the_lab_asks_for_no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert await refused(monkeypatch, tmp_path, rules=Rules.of("lab")) == []
    assert Rules.of("lab").default_level is Level.LIVE
    assert Rules.of("prod").default_level is Level.SHADOW


def test_the_newest_drill_that_was_held_counts(rehearsed: Path) -> None:
    assert newest_held(rehearsed, "drain") == NOW - timedelta(days=1)
    assert newest_held(rehearsed, "switchover-down") is None
