"""The switchover drill from its four words backwards: when it holds, and every way it must not."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drills.drill import DrillError, NotRun, Observation, Probe, Verdict, until
from drills.journal import Journal, unfinished
from drills.load import Lag, LoadResult, Outcome, Sample
from drills.switchover import Parts, SwitchoverSettings, parts, run
from stacks.contract import Deployment, ServingOutputs, SiteEndpoint, TrafficOutputs

DIGEST = f"sha256:{'a' * 64}"


def a_deployment() -> Deployment:
    """Two sites whose arithmetic adds up to two seconds: nothing here waits for a real prober."""
    traffic = TrafficOutputs(
        zone_id="Z",
        zone_name="tandem.test",
        name_servers=[],
        service_name="recommend.tandem.test",
        resolver="",
        dns_api="",
        scheme="http",
        ttl_seconds=0,
        health_path="/healthz",
        health_token="token",
        health_interval_seconds=0,
        health_threshold=1,
        probe_timeout_seconds=0,
        request_timeout_seconds=0.2,
        sites={
            site: SiteEndpoint(name=site, address="127.0.0.1", port=1, weight=weight, health_check_id=site)
            for site, weight in (("private", 70), ("public", 30))
        },
    )
    serving = {
        site: ServingOutputs(
            site=site,
            namespace="tandem",
            triton_deployment="triton",
            triton_replicas=2,
            gateway_deployment="gateway",
            gateway_replicas=2,
            model_name="recommender",
            model_digest=DIGEST,
        )
        for site in traffic.sites
    }
    return Deployment("lab", {}, {}, {}, serving, traffic)


@dataclass
class World:
    """A system that can be broken, and how it behaves."""

    broken: bool = False
    bites: bool = True
    heals: bool = True
    switches: bool = True
    undo_fails: int = 0
    wrong_answers: bool = False
    failing_before: bool = False
    mends_itself: bool = False
    is_dropped: bool = True
    still_answers: bool = False
    hurts: int = 3
    undone: int = 0
    applied: int = 0

    def outcome(self) -> Outcome:
        if self.failing_before and not self.applied:
            return Outcome.HTTP_5XX
        if self.wrong_answers:
            return Outcome.WRONG
        if self.broken and (self.hurts > 0 or not self.switches):
            self.hurts -= 1
            return Outcome.REFUSED
        if self.applied and self.mends_itself:
            self.broken = False
        if self.undone and not self.heals:
            return Outcome.TIMEOUT
        return Outcome.OK


@dataclass
class Asks:
    """A probe of the world."""

    name: str
    condition: Callable[[], bool]

    async def ask(self) -> Observation:
        return Observation(self.name, held=self.condition(), detail="asked")


@dataclass
class Breaks:
    """An action on the world."""

    world: World
    raises: bool = False
    name: str = "break the world"

    async def prepare(self) -> dict[str, Any]:
        return {"broken": self.world.broken}

    async def apply(self) -> None:
        self.world.applied += 1
        self.world.broken = self.world.bites
        if self.raises:
            raise DrillError("half done")

    async def undo(self, prior: dict[str, Any]) -> None:
        if self.world.undo_fails > 0:
            self.world.undo_fails -= 1
            raise DrillError("the API is away")
        self.world.undone += 1
        self.world.broken = prior["broken"]


@dataclass
class Stage:
    """One run of the drill against a world."""

    folder: Path
    world: World = field(default_factory=World)
    steady: Callable[[], bool] = lambda: True
    raises: bool = False

    async def play(self) -> Any:
        world = self.world
        self.journal = Journal(self.folder, "switchover-down", "lab", {})

        async def users(stop: asyncio.Event, on_sample: Callable[[Sample], None]) -> LoadResult:
            while not stop.is_set():
                now, outcome = time.monotonic(), world.outcome()
                site = "public" if world.broken and not world.still_answers else "private"
                on_sample(Sample(now, now, now, 0, "dns", site, "127.0.0.1", 200, outcome, DIGEST, "seen"))
                await asyncio.sleep(0.005)
            return LoadResult([], Lag(0, 0, 0))

        def probe(name: str, condition: Callable[[], bool]) -> Probe:
            return Asks(name, condition)

        given = Parts(
            steady=[probe("steady", lambda: self.steady() and (world.heals or not world.undone))],
            action=Breaks(world, self.raises),
            symptom=probe("symptom", lambda: world.broken),
            dropped=probe("dropped", lambda: world.is_dropped and bool(world.applied)),
            restored=[probe("restored", lambda: not world.broken)],
            users=users,
        )
        settings = SwitchoverSettings(
            site="private",
            warm_seconds=0.1,
            quiet_seconds=0.1,
            margin_seconds=0.2,
            tail_seconds=0.1,
            steady_deadline_seconds=0.1,
            bite_deadline_seconds=0.2,
            undo_deadline_seconds=0.5,
            restore_deadline_seconds=0.3,
        )
        return await run(a_deployment(), settings, given, self.journal, lambda *_: None)


async def test_a_healthy_system_holds_and_is_put_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    result = await stage.play()
    assert result.verdict is Verdict.HELD, result.reason
    assert (stage.world.applied, stage.world.undone) == (1, 1)
    assert stage.journal.clean


async def test_without_a_steady_state_nothing_is_touched(tmp_path: Path) -> None:
    stage = Stage(tmp_path, steady=lambda: False)
    with pytest.raises(NotRun, match="no steady state to start from: steady: asked"):
        await stage.play()
    assert stage.world.applied == 0


async def test_failures_before_the_fault_are_no_drill(tmp_path: Path) -> None:
    stage = Stage(tmp_path, World(failing_before=True))
    with pytest.raises(NotRun, match="failed before anything was broken, the first: http_5xx"):
        await stage.play()
    assert stage.world.applied == 0


async def test_a_fault_that_does_not_bite_is_not_run_and_still_undone(tmp_path: Path) -> None:
    stage = Stage(tmp_path, World(bites=False))
    with pytest.raises(NotRun, match="the fault did not bite"):
        await stage.play()
    assert stage.world.undone == 1
    assert stage.journal.clean


async def test_an_action_that_fails_half_way_is_undone(tmp_path: Path) -> None:
    stage = Stage(tmp_path, raises=True)
    with pytest.raises(DrillError, match="half done"):
        await stage.play()
    assert stage.world.undone == 1
    assert stage.journal.clean


async def test_an_undo_is_tried_again_until_it_is_done(tmp_path: Path) -> None:
    stage = Stage(tmp_path, World(undo_fails=2))
    result = await stage.play()
    assert result.verdict is Verdict.HELD, result.reason
    assert stage.world.undone == 1


async def test_an_undo_that_never_succeeds_is_loud_and_stays_in_the_journal(tmp_path: Path) -> None:
    stage = Stage(tmp_path, World(undo_fails=1_000_000))
    with pytest.raises(DrillError, match="the API is away"):
        await stage.play()
    assert not stage.journal.clean
    assert unfinished(tmp_path, "") == [stage.journal.path]
    assert json.loads(stage.journal.path.read_text())["undo"]["prior"] == {"broken": False}


@pytest.mark.parametrize(
    ("world", "missed"),
    [
        (World(switches=False), "answers of the survivors after recovery: 0"),
        (World(heals=False), "failures after restoration"),
        (World(hurts=0), "requests the fault hurt: 0"),
        (World(mends_itself=True), "site still lost when the fault was lifted: no"),
        (World(is_dropped=False), "DNS dropped the site: no"),
        (World(still_answers=True), "answers of the survivors after recovery: 0"),
    ],
    ids=["no second site", "a second outage", "nobody hurt", "the fault lifts itself", "DNS keeps it", "a ghost"],
)
async def test_a_system_without_its_defence_deviates(tmp_path: Path, world: World, missed: str) -> None:
    result = await Stage(tmp_path, world).play()
    assert result.verdict is Verdict.DEVIATED
    assert missed in result.reason


async def test_a_wrong_answer_is_never_a_success(tmp_path: Path) -> None:
    stage = Stage(tmp_path, World(wrong_answers=True))
    with pytest.raises(NotRun, match="the first: wrong"):
        await stage.play()


async def test_a_second_signal_does_not_stop_the_undo(tmp_path: Path) -> None:
    stage = Stage(tmp_path, World(undo_fails=3))
    task = asyncio.create_task(stage.play())
    assert await until(lambda: stage.world.applied > 0, 5, pause_seconds=0.01)
    task.cancel()
    assert await until(lambda: stage.world.undo_fails < 3, 5, pause_seconds=0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.world.undone == 1
    assert stage.journal.clean


async def test_every_request_is_kept_beside_the_journal(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    result = await stage.play()
    kept = [Sample.from_json(line) for line in stage.journal.samples.read_text().splitlines()]
    assert len(kept) == result.measures["whole"]["requests"]


async def test_a_cancelled_drill_puts_back_what_it_changed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    task = asyncio.create_task(stage.play())
    assert await until(lambda: stage.world.applied > 0, 5, pause_seconds=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.world.undone == 1
    assert stage.journal.clean


def test_an_unknown_fault_or_site_is_refused_before_anything_runs() -> None:
    with pytest.raises(NotRun, match="choose one of down"):
        SwitchoverSettings(site="private", fault="meteor")
    with pytest.raises(NotRun, match="choose one of private, public"):
        parts(a_deployment(), SwitchoverSettings(site="moon"))
