"""From a request to a journal: what is refused before anything is touched, and that it is called `not run`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner, Result

from drills import cli, session
from drills.drill import DrillError, Level, NotRun, Observation
from drills.session import Request
from signals import holder, marks
from signals.lock import hold
from stacks.contract import Deployment
from tests.drills.site_api import SiteApi, serving_api

NOBODY = {"region_name": "us-east-1", "aws_access_key_id": "none", "aws_secret_access_key": "none"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"users": 0}, "at least one user"),
        ({"rate_per_second": 0.0}, "a rate above 0"),
        ({"rate_per_second": float("nan")}, "a rate above 0"),
        ({"rate_per_second": 1001.0}, "up to 1000"),
        ({"lease_seconds": 1.0}, "a lease of 1 s; it lasts 15 to 300 s"),
        ({"lease_seconds": 3600.0}, "a lease of 3600 s"),
        ({"lease_seconds": -1.0}, "a lease of -1 s"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_the_rule(given: dict[str, Any], why: str) -> None:
    with pytest.raises(NotRun, match=why):
        Request(name="drain", env="lab", **given)


def test_a_request_says_what_it_means() -> None:
    asked = Request(name="drain", env="lab", seed=7)
    assert (asked.chosen_level, asked.lease) == (Level.LIVE, 15.0)
    assert Request(name="drain", env="prod").chosen_level is Level.SHADOW
    assert Request(name="drain", env="prod").lease == 60.0
    assert Request(name="drain", env="prod", level=Level.LIVE, lease_seconds=30).lease == 30
    assert asked.document()["seed"] == 7


def test_a_lost_lock_ends_the_drill_though_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[int] = []
    monkeypatch.setattr(session.signal, "raise_signal", raised.append)

    def say(_: str) -> None:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        session._end_of_lock(say)("the store is away")
    assert raised == [signal.SIGINT]


@pytest.fixture(scope="module")
def served() -> Iterator[SiteApi]:
    with serving_api() as api:
        yield api


@pytest.fixture(scope="module")
def buckets() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.84.0.5", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, **NOBODY).create_bucket(Bucket="signals")
        yield url
    finally:
        server.stop()


@pytest.fixture
def api(served: SiteApi, buckets: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SiteApi:
    """A deployment whose outputs are at hand and whose sites have room for each other's load."""
    storage = served.deployment.storage
    for site in storage:
        object.__setattr__(storage[site], "endpoint", buckets)
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    monkeypatch.setattr(session, "read_deployment", lambda *_: served.deployment)

    async def room(*_: object, **__: object) -> Observation:
        return Observation("headroom", held=True, detail="enough")

    monkeypatch.setattr(session, "headroom", room)
    return served


def test_observing_is_no_running() -> None:
    with pytest.raises(NotRun, match="level observe asks and touches nothing"):
        session.execute(Request(name="drain", env="lab", level=Level.OBSERVE), lambda *_: None, lambda _: None)


@pytest.mark.live
async def test_the_drills_own_load_is_part_of_the_demand(api: SiteApi, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    async def room(*_: object, extra_per_second: float = 0.0) -> Observation:
        asked.append(extra_per_second)
        return Observation("headroom", held=True, detail="enough")

    monkeypatch.setattr(session, "headroom", room)
    await session.plan(Request(name="drain", env="lab", rate_per_second=70.0), api.deployment)
    assert asked == [70.0]


@pytest.mark.live
def test_another_site_that_is_drained_keeps_every_drill_out(api: SiteApi) -> None:
    marks.mark(api.deployment, "public", who="eve", why="")
    try:
        done = typed("run", "drain", "--dry-run")
        assert done.exit_code == 2, done.output
        assert "public is, by a mark of eve" in done.output
        assert typed("run", "drain", "--site", "public", "--dry-run").exit_code == 0, "its own mark is its own affair"
    finally:
        marks.unmark(api.deployment, "public")


def everything(api: SiteApi) -> list[Any]:
    """All that stands in the site."""
    return [api.inside(lambda store, kind=kind: store.list(kind)) for kind in api.store.kinds if not kind.read_only]


def typed(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "250"})


@pytest.mark.live
def test_a_dry_run_says_what_would_be_done_and_undone_and_touches_nothing(api: SiteApi, tmp_path: Path) -> None:
    before = everything(api)
    done = typed("run", "switchover", "--fault", "blackhole", "--dry-run")
    assert done.exit_code == 0, done.output
    for line in (
        "would prove: private was lost (blackhole)",
        "drop what anybody sends to the gateways of private",
        "must be seen  users cannot reach private",
        "put back: drop what anybody sends",
        "a Job with the undo stands in private and is seen running",
        "outputs and clusters are of this environment  holds",
    ):
        assert line in " ".join(done.output.split("\n")).replace("   ", "  ").replace("   ", "  "), done.output
    assert everything(api) == before
    assert list(tmp_path.iterdir()) == [], "no journal, no lock"


@pytest.mark.live
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("run", "melt"), "drill 'melt' is not known"),
        (("run", "switchover", "--fault", "melt"), "fault 'melt' is not known"),
        (("run", "drain", "--fault", "down"), "has none to choose"),
        (("run", "drain", "--site", "moon"), "choose one of private, public"),
        (("run", "drain", "--users", "0"), "at least one user"),
        (("run", "drain", "--users", "1"), "users is 1; drain has 2 kinds of them: ask for 2 or more"),
    ],
)
def test_what_is_not_known_is_not_run(api: SiteApi, words: tuple[str, ...], why: str) -> None:
    done = typed(*words)
    assert done.exit_code == 2
    assert why in done.output


@pytest.mark.live
def test_a_locked_environment_is_not_run(api: SiteApi, tmp_path: Path) -> None:
    with hold("lab", tmp_path / "lab", [], "tandem up"):
        done = typed("run", "drain")
    assert done.exit_code == 2, done.output
    assert "not run" in done.output
    assert "tandem up" in done.output


@pytest.mark.live
def test_a_guard_that_refuses_is_not_run_and_leaves_no_journal(
    api: SiteApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: object, **__: object) -> Observation:
        return Observation("headroom", held=False, detail="80 of [60] requests/s")

    monkeypatch.setattr(session, "headroom", none)
    before = everything(api)
    done = typed("run", "switchover")
    assert done.exit_code == 2, done.output
    assert "the guard does not let it in: headroom: 80 of [60] requests/s" in done.output
    assert everything(api) == before
    assert not list(tmp_path.rglob("*.json"))
    assert typed("run", "switchover", "--dry-run").exit_code == 2
    assert typed("run", "pod-loss", "--level", "shadow").exit_code == 2, "a drill that hurts runs live or not at all"


@pytest.mark.live
def test_what_escapes_before_the_journal_is_never_a_deviation(api: SiteApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (DrillError("the API is away"), ValueError("a defect"), KeyboardInterrupt()):

        async def raises(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(session.settle, "leases", raises)
        assert typed("run", "drain").exit_code == 2, repr(error)


@pytest.mark.live
def test_observing_asks_and_changes_nothing(api: SiteApi, tmp_path: Path) -> None:
    before = everything(api)
    done = typed("run", "drain", "--level", "observe")
    assert done.exit_code == 1, "nothing here is well"
    assert "golden answer of private" in done.output
    assert everything(api) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.live
def test_observing_another_environment_is_not_run(api: SiteApi, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Deployment(
        "prod",
        api.deployment.storage,
        api.deployment.pool,
        api.deployment.platform,
        api.deployment.serving,
        api.deployment.traffic,
    )
    monkeypatch.setattr(session, "read_deployment", lambda *_: other)
    done = typed("run", "drain", "--env", "prod", "--level", "observe")
    assert done.exit_code == 2
    assert "private exports lab, asked for prod" in done.output


@pytest.mark.live
def test_a_drill_is_armed_by_one_and_approved_by_another(api: SiteApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "person", lambda: "ann@a")
    armed = typed("arm", "switchover", "--env", "lab", "--level", "live")
    assert armed.exit_code == 0, armed.output
    token = armed.stdout.strip().splitlines()[0]
    assert "switchover-down of private at level live in lab is armed by ann@a" in armed.output, (
        "no fault: the one that is meant"
    )
    assert f"a second person has to agree: tandem drill approve {token} --env lab" in armed.output
    own = typed("approve", token, "--env", "lab")
    assert own.exit_code == 1
    assert "a second person has to approve it" in own.output
    monkeypatch.setattr(holder, "person", lambda: "bob@b")
    assert "approved by bob@b" in typed("approve", token, "--env", "lab").output


@pytest.mark.live
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("arm", "melt", "--env", "lab"), "not known"),
        (("arm", "drain", "--fault", "down", "--env", "lab"), "none to choose"),
        (("arm", "drain", "--site", "moon", "--env", "lab"), "choose one of private, public"),
        (("arm", "drain", "--minutes", "0", "--env", "lab"), "a token lasts 1 to 240"),
        (("approve", "none", "--env", "lab"), "token 'none' is in no store"),
    ],
)
def test_what_cannot_be_armed_or_approved_says_why(api: SiteApi, words: tuple[str, ...], why: str) -> None:
    done = typed(*words)
    assert done.exit_code == 1
    assert why in done.output


@pytest.mark.live
def test_with_nothing_left_there_is_nothing_to_undo(api: SiteApi) -> None:
    done = typed("undo")
    assert done.exit_code == 0, done.output
    assert "nothing to undo" in done.output


def test_outputs_that_are_not_to_be_had_are_not_run(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="no stack outputs of lab"):
        session.read_deployment("lab", tmp_path / "absent.json")
