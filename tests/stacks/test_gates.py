# ruff: noqa: ARG002 - fakes take what the protocol hands them
"""One site changes at a time, while the others are well, and the next one only after a bake that hurt nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gates
from drills import gateways
from drills.gateways import FAILED, Reading, SilentGatewaysError
from stacks import cli
from stacks import engine as engines
from stacks.contract import Deployment, StackName
from stacks.rollout import GateError
from stacks.workspace import Workspace
from tests.drills import site_stage
from tests.drills.site_stage import World
from tests.stacks.test_rollout import Quiet

pytestmark = pytest.mark.live

PRIVATE, PUBLIC = StackName.parse("serving-private.lab"), StackName.parse("serving-public.lab")


@pytest.fixture(scope="module")
def stage() -> Iterator[World]:
    with site_stage.running() as world:
        yield world


@pytest.fixture
def world(stage: World, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, site in stage.sites.items():
        site.__init__(name)  # type: ignore[misc]  # a site as it was
    monkeypatch.setattr(gates, "WELL_SECONDS", 0.3)
    monkeypatch.setattr(gates, "LOOK_SECONDS", 0.05)
    return stage


class Changing:
    """An engine whose every run of a serving stack changes it, unless told otherwise."""

    name = "changing"

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.counts = {"update": 1, "same": 4}

    def up(self, stack: StackName, progress: engines.Progress) -> dict[str, int]:
        self.runs.append(str(stack))
        return self.counts

    def outputs(self, stack: StackName) -> dict[str, Any] | None:
        return None


class Watched(gates.SiteGates):
    """Gates of a deployment that is known; counters as a test wants them."""

    def __init__(self, world: World, *, bake: int = 0, known_ill: tuple[str, ...] = ()) -> None:
        self.said: list[str] = []
        super().__init__(None, None, self.said.append, known_ill)  # type: ignore[arg-type]  # recorded() asks neither
        serving = {site: replace(each, hold_down_seconds=0) for site, each in world.deployment.serving.items()}
        traffic = replace(world.deployment.traffic, bake_seconds=bake, burn_rate_limit=2.0)
        self.deployment = replace(world.deployment, serving=serving, traffic=traffic)

    def recorded(self) -> Deployment:
        return self.deployment


def up(workspace: Workspace, watched: Watched, engine: Changing) -> None:
    engines.up(workspace, engine, Quiet(), [[PRIVATE, PUBLIC]], gates=watched)  # type: ignore[arg-type]  # what up asks of an engine


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "stacks" / "config"
    folder.mkdir(parents=True)
    for stack in (PRIVATE, PUBLIC):
        (folder / f"Pulumi.{stack}.yaml").write_text("config:\n  tandem:kind: private\n")
    return Workspace("lab", tmp_path, tmp_path / "home")


@pytest.fixture
def engine() -> Changing:
    return Changing()


def counters(monkeypatch: pytest.MonkeyPatch, *readings: dict[str, tuple[float, float]]) -> None:
    """The gateways' counters, one reading after the other: pod to requests and failures."""
    left = list(readings)

    def read(deployment: Deployment, site: str) -> Reading:
        pods = {pod: {"requests": asked, FAILED: bad} for pod, (asked, bad) in left.pop(0).items()}
        return Reading(time.monotonic(), pods)

    monkeypatch.setattr(gateways, "read", read)


def test_both_sites_change_when_all_is_well(world: World, workspace: Workspace, engine: Changing) -> None:
    watched = Watched(world)
    up(workspace, watched, engine)
    assert sorted(engine.runs) == [str(PRIVATE), str(PUBLIC)]


def test_no_site_changes_while_another_is_ill(world: World, workspace: Workspace, engine: Changing) -> None:
    world.sites["public"].well = False
    with pytest.raises(engines.StackFailed, match="golden answer of public"):
        up(workspace, Watched(world), engine)
    assert str(PRIVATE) not in engine.runs


def test_a_site_that_is_known_to_be_ill_stops_nobody(world: World, workspace: Workspace, engine: Changing) -> None:
    world.sites["public"].well = False
    up(workspace, Watched(world, known_ill=("public",)), engine)
    assert str(PRIVATE) in engine.runs


def test_a_change_that_makes_a_site_ill_is_the_last(world: World, workspace: Workspace, engine: Changing) -> None:
    def hurt(stack: StackName, progress: engines.Progress) -> dict[str, int]:
        world.sites[stack.site or ""].well = False
        engine.runs.append(str(stack))
        return {"update": 1}

    engine.up = hurt  # type: ignore[method-assign]
    with pytest.raises(engines.StackFailed, match="golden gate"):
        up(workspace, Watched(world), engine)
    assert len(engine.runs) == 1


def test_a_site_that_turns_ill_while_it_bakes_stops_the_rollout(world: World) -> None:
    watched = Watched(world, bake=30)

    def say(text: str) -> None:
        if "bakes for 30 s" in text:
            world.sites["private"].well = False

    watched._say = say
    with pytest.raises(GateError, match="while it baked"):
        watched.after(PRIVATE)


def test_nothing_is_watched_after_an_up_that_changed_nothing(
    world: World, workspace: Workspace, engine: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.counts = {"same": 5}
    monkeypatch.setattr(Watched, "after", lambda *_: pytest.fail("watched"))
    up(workspace, Watched(world), engine)
    assert len(engine.runs) == 2


@pytest.mark.parametrize(("bad", "held"), [(20.0, True), (21.0, False)])
def test_failures_while_it_bakes_may_be_twice_what_the_objective_allows(
    world: World, monkeypatch: pytest.MonkeyPatch, bad: float, held: bool
) -> None:
    """99 % promised: of 1,000 requests 10 may fail, twice that is 20."""
    counters(monkeypatch, {"old": (500, 5)}, {"old": (900, 5), "new": (600, bad)})
    watched = Watched(world)
    watched.deployment = replace(
        watched.deployment,
        traffic=replace(
            watched.deployment.traffic,
            objectives=replace(watched.deployment.traffic.objectives, availability_percent=99.0),
        ),
    )
    if held:
        watched.after(PRIVATE)
        assert "20 of 1000 requests failed" in watched.said[-1]
    else:
        with pytest.raises(GateError, match="burn-rate gate: 21 of 1000"):
            watched.after(PRIVATE)


def test_too_few_requests_are_said_to_tell_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counters(monkeypatch, {"pod": (0, 0)}, {"pod": (99, 99)})
    watched = Watched(world)
    watched.after(PRIVATE)
    assert "99 requests while it baked are too few to tell" in watched.said[-1]


def test_counters_that_cannot_be_read_are_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(deployment: Deployment, site: str) -> Reading:
        raise SilentGatewaysError("nobody there")

    monkeypatch.setattr(gateways, "read", silent)
    watched = Watched(world)
    watched.after(PRIVATE)
    assert any("cannot count: nobody there" in line for line in watched.said)


class Joined:
    """The session's side of `tandem up`, for its refusals."""

    def __init__(self, env: str, workspace: Workspace) -> None:
        self.workspace = replace(workspace, env=env)
        self.engine = None
        self.layers = [[PRIVATE, PUBLIC]]


def test_all_at_once_is_refused_in_prod_and_allowed_elsewhere(workspace: Workspace) -> None:
    def gates_of(env: str) -> Any:
        return cli.Session.gates(Joined(env, workspace), None, all_at_once=True, known_ill=None)  # type: ignore[arg-type]

    with pytest.raises(engines.EngineError, match="--all-at-once is refused in prod"):
        gates_of("prod")
    assert gates_of("lab") is None


def test_an_ill_site_that_does_not_exist_is_refused(workspace: Workspace) -> None:
    with pytest.raises(engines.EngineError, match="--known-ill mars: lab has the sites private, public"):
        cli.Session.gates(Joined("lab", workspace), None, all_at_once=False, known_ill=["mars"])  # type: ignore[arg-type]


def test_nobody_is_asked_before_every_layer_has_been_up(workspace: Workspace, engine: Changing) -> None:
    said: list[str] = []
    assert gates.of(workspace, engine, said.append) is None  # type: ignore[arg-type]
    assert said == []


def test_what_older_programs_recorded_has_no_gates_and_that_is_said(
    workspace: Workspace, engine: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "outputs", lambda *_: {"traffic.lab": {"zone_id": "Z1"}})
    said: list[str] = []
    assert gates.of(workspace, engine, said.append) is None  # type: ignore[arg-type]
    assert len(said) == 1
    assert said[0].startswith("no gates: what is recorded does not tell")
