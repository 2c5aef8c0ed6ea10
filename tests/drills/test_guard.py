"""Who is let in: every condition by itself, each seen refusing once."""

import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.main import get_command

from drills import guard
from drills.cli import app
from drills.drill import Drill, Level, Observation, Verdict
from drills.guard import Guard, Rules, newest_ended, refusals
from drills.journal import FORMAT
from signals import SignalError
from signals.arming import Armed
from signals.marks import InStore, Mark
from stacks.contract import ENVIRONMENT_LABEL
from tests.drills.worlds import Play, World, a_deployment

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STRICT = Rules.of("prod")
FRESH_DRAIN = "the newest drain drill of private was held, in the last 7 days"


def a_drill(**changed: Any) -> Drill:
    from dataclasses import replace

    return replace(Play(Path("unused"), World()).drill(), **changed)


def armed(**changed: Any) -> Armed:
    until = (NOW + timedelta(minutes=30)).isoformat()
    given = {"token": "t", "env": "lab", "level": "live", "drill": "trial", "site": "private", "who": "ann@a"}
    return Armed(**{**given, "until": until, "approved_by": "bob@b", **changed})


@pytest.fixture(autouse=True)
def clusters(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Namespaces' label, as each site's cluster gives it."""
    labels = {"private": "lab", "public": "lab"}

    def cluster(_: object, site: str) -> Any:
        metadata = SimpleNamespace(labels={ENVIRONMENT_LABEL: labels[site]})
        return SimpleNamespace(core=SimpleNamespace(read_namespace=lambda *_, **__: SimpleNamespace(metadata=metadata)))

    monkeypatch.setattr(guard, "cluster", cluster)
    return labels


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, bool], list[InStore]]:
    """What lies in the stores for each site and kind of mark; no mark unless a test puts one."""
    found: dict[tuple[str, bool], list[InStore]] = {}

    def read(_: object, site: str, *, shadow: bool = False) -> list[InStore]:
        return found.get((site, shadow), [InStore("private", counts=True, mark=None)])

    monkeypatch.setattr(guard.marks, "read", read)
    return found


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
        site="private",
        level=level,
        rules=rules,
        folder=folder,
        token="t" if token else "",
        words="trial",
        **measured,
    )
    return [each.probe for each in refusals(await asked.ask(NOW))]


@pytest.fixture
def rehearsed(tmp_path: Path) -> Path:
    """Journals with a drain drill that was held yesterday."""
    write(tmp_path / "a.json", NOW - timedelta(days=1))
    return tmp_path


def write(path: Path, ended: datetime | str, /, **changed: Any) -> None:
    """A journal of a drain drill that was held here, or of something near it."""
    content = {"format": FORMAT, "drill": "drain", "env": "lab", "zone": "Z", "status": "held"}
    content |= {"settings": {"level": "shadow", "site": "private"}, "ended": str(ended), **changed}
    path.write_text(json.dumps(content))


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
        (armed(site="public"), "armed"),
        (armed(approved_by=""), "a second person agreed"),
    ],
    ids=["none", "expired", "another environment", "another level", "another drill", "another site", "nobody agreed"],
)
async def test_a_token_that_does_not_fit_keeps_it_out(
    monkeypatch: pytest.MonkeyPatch, rehearsed: Path, token: Armed | None, condition: str
) -> None:
    assert condition in await refused(monkeypatch, rehearsed, token=token)


async def test_what_it_says_to_type_can_be_typed(tmp_path: Path) -> None:
    asked = Guard(
        deployment=a_deployment(),
        drill=a_drill(),
        site="private",
        level=Level.LIVE,
        rules=STRICT,
        folder=tmp_path,
        words="switchover --fault slow",
    )
    said = [each.detail.partition("tandem drill ")[2] for each in refusals(await asked.ask(NOW))]
    lines = [shlex.split(line) for line in said if line]
    assert [line[0] for line in lines] == ["arm", "approve"]
    commands: Any = get_command(app)
    for name, *words in lines:
        commands.commands[name].make_context(name, words)


async def test_a_live_drill_needs_a_fresh_drain_drill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert await refused(monkeypatch, tmp_path, token=armed()) == [FRESH_DRAIN]
    write(tmp_path / "a.json", NOW - timedelta(days=8))
    assert await refused(monkeypatch, tmp_path, token=armed()) == [FRESH_DRAIN]
    write(tmp_path / "b.json", NOW - timedelta(days=1))
    assert await refused(monkeypatch, tmp_path, token=armed()) == []
    write(tmp_path / "c.json", NOW, status="deviated")
    assert await refused(monkeypatch, tmp_path, token=armed()) == [FRESH_DRAIN], "what has deviated since is not proved"


@pytest.mark.parametrize(
    "changed",
    [
        {"zone": "another"},
        {"env": "prod"},
        {"settings": {"level": "observe", "site": "private"}},
        {"settings": {"site": "private"}},
        {"settings": {"level": "shadow", "site": "public"}},
        {"settings": {"level": "shadow", "site": "private", "classes": ["dns"]}},
        {"format": 1},
        {"ended": (NOW + timedelta(days=300)).isoformat()},
    ],
    ids=[
        "another zone",
        "another environment",
        "observed",
        "no level",
        "another site",
        "one class of clients",
        "another format",
        "not ended yet",
    ],
)
async def test_a_drain_drill_of_something_else_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, Any]
) -> None:
    write(tmp_path / "a.json", NOW, **changed)
    assert await refused(monkeypatch, tmp_path, token=armed()) == [FRESH_DRAIN]


async def test_a_broken_file_beside_the_journals_stops_nobody(monkeypatch: pytest.MonkeyPatch, rehearsed: Path) -> None:
    (rehearsed / "0.json").write_text("no JSON")
    (rehearsed / "1.json").write_text("[]")
    (rehearsed / "2.json").write_bytes(bytes([0xFF]))
    write(rehearsed / "3.json", "yesterday")
    write(rehearsed / "4.json", "2026-11-22T12:00:00")
    assert await refused(monkeypatch, rehearsed, token=armed()) == []


EVE = Mark("public", "eve", "today", "", shadow=False)


@pytest.mark.parametrize(
    ("where", "lies", "level", "kept_out"),
    [
        (("public", False), InStore("private", counts=True, mark=EVE), Level.LIVE, True),
        (("public", False), InStore("private", counts=True, mark=None, error="away"), Level.LIVE, True),
        (("public", False), InStore("public", counts=False, mark=EVE), Level.LIVE, False),
        (("public", False), InStore("public", counts=False, mark=None, error="away"), Level.LIVE, False),
        (("private", False), InStore("public", counts=True, mark=EVE), Level.LIVE, False),
        (("public", True), InStore("private", counts=True, mark=EVE), Level.SHADOW, True),
        (("public", True), InStore("private", counts=True, mark=EVE), Level.LIVE, False),
        (("public", False), InStore("private", counts=True, mark=EVE), Level.OBSERVE, False),
    ],
    ids=["drained", "not known", "a copy", "a copy not known", "its own", "shadow", "a shadow's to the living", "seen"],
)
async def test_another_site_that_is_drained_or_may_be_keeps_it_out(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stores: dict[tuple[str, bool], list[InStore]],
    where: tuple[str, bool],
    lies: InStore,
    level: Level,
    *,
    kept_out: bool,
) -> None:
    stores[where] = [lies]
    found = await refused(monkeypatch, tmp_path, level=level, rules=Rules.of("lab"))
    assert found == (["no other site is drained"] if kept_out else [])


async def test_a_site_without_a_store_is_not_known_to_be_led_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def read(*_: object, **__: object) -> list[InStore]:
        raise SignalError("drain_stores of public are none")

    monkeypatch.setattr(guard.marks, "read", read)
    assert await refused(monkeypatch, tmp_path, rules=Rules.of("lab")) == ["no other site is drained"]


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
    write(rehearsed / "b.json", NOW - timedelta(days=3))
    yesterday = (NOW - timedelta(days=1), Verdict.HELD)
    assert newest_ended(rehearsed, "drain", "private", a_deployment()) == yesterday
    assert newest_ended(rehearsed, "switchover-down", "private", a_deployment()) is None
