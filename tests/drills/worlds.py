"""A deployment in words, and a world that can be broken: what drills are tried on without a lab."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from drills import objective
from drills.drill import Drill, DrillError, Level, NotRun, Observation, Prior, Probe, Stage
from drills.evidence import Evidence, Result
from drills.journal import Journal
from drills.lease import State, Undo
from drills.load import Lag, LoadResult, Outcome, Sample
from drills.run import Course, Times
from stacks.contract import (
    Deployment,
    Objectives,
    PlatformOutputs,
    PoolOutputs,
    ServingOutputs,
    SiteEndpoint,
    StorageOutputs,
    TrafficOutputs,
)
from tests.declared import filled

DIGEST = f"sha256:{'a' * 64}"
SITES = ("private", "public")


def a_deployment(**traffic: Any) -> Deployment:
    """Two sites whose arithmetic adds up to two seconds: nothing here waits for a real prober."""
    endpoints = {
        site: filled(
            SiteEndpoint,
            name=site,
            address="127.0.0.1",
            port=1,
            weight=weight,
            golden_check_id=f"{site}-golden",
            drain_check_ids=[f"{site}-drain"],
            drain_stores=[other],
            shadow_drain_check_ids=[f"{site}-shadow-drain"],
        )
        for site, weight, other in (("private", 70, "public"), ("public", 30, "private"))
    }
    given: dict[str, Any] = {
        "zone_id": "Z",
        "zone_name": "tandem.test",
        "name_servers": [],
        "service_name": "recommend.tandem.test",
        "shadow_name": "shadow.recommend.tandem.test",
        "resolver": "",
        "dns_api": "http://127.84.0.9:1",
        "scheme": "http",
        "ttl_seconds": 0,
        "health_path": "/healthz",
        "health_token": "token",
        "health_interval_seconds": 0,
        "health_threshold": 1,
        "probe_timeout_seconds": 0,
        "request_timeout_seconds": 0.2,
        "checker_cidrs": ["127.30.1.16/29", "127.30.1.24/29"],
        "objectives": Objectives(recovery_seconds=1.2, availability_percent=99.0, p99_ms=500.0, wrong_answers=0),
        "bake_seconds": 0,
        "burn_rate_limit": 2.0,
        "sites": endpoints,
        **traffic,
    }
    return Deployment(
        "lab",
        {
            site: filled(
                StorageOutputs,
                site=site,
                region="us-east-1",
                endpoint="http://127.84.0.8:1",
                model_bucket="models",
                signal_bucket="signals",
                signal_url="http://127.84.0.8:1/signals",
            )
            for site in SITES
        },
        {
            site: filled(
                PoolOutputs,
                site=site,
                kind=site,
                cluster_name=site,
                kubeconfig=KUBECONFIG,
                edge_address="127.0.0.1",
                edge_dns_name="",
                edge_zone_id="",
                edge_target_group_arn="",
                node_grace_seconds=20,
                machine_namespace="default" if site == "private" else "",
            )
            for site in SITES
        },
        {
            site: filled(
                PlatformOutputs,
                site=site,
                namespace="tandem",
                priority_class="serving",
                gpu_resource="nvidia.com/gpu",
                environment="lab",
                lease_account="drill-lease",
                lease_image=f"drills@{DIGEST}",
            )
            for site in SITES
        },
        {
            site: filled(
                ServingOutputs,
                site=site,
                namespace="tandem",
                triton_deployment="triton",
                triton_replicas=2,
                gateway_deployment="gateway",
                gateway_replicas=2,
                model_name="recommender",
                model_digest=DIGEST,
                accepted_digests=[DIGEST],
                gateway_policy="gateway",
                concurrency_limit=16,
                golden_interval_seconds=2,
                hold_down_seconds=20,
            )
            for site in SITES
        },
        filled(TrafficOutputs, **given),
    )


KUBECONFIG = (
    '{"apiVersion":"v1","kind":"Config","clusters":[{"name":"a","cluster":{"server":"http://127.84.0.7:1"}}],'
    '"users":[{"name":"a","user":{}}],"contexts":[{"name":"a","context":{"cluster":"a","user":"a"}}],'
    '"current-context":"a"}'
)


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
    survivors_well: bool = True
    hurts: int = 3
    undone: int = 0
    applied: int = 0
    lease_stands: bool = True
    lease_ends: str = State.CLEAN
    lease_is_lost: bool = False
    lease_left_seconds: float = 60.0
    log: list[str] = field(default_factory=list)

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

    kind: ClassVar[str] = "break"

    world: World
    raises: bool = False
    name: str = "break the world"
    site: str = "private"
    arguments: dict[str, Any] = field(default_factory=lambda: {"site": "private"})

    async def prepare(self) -> Prior:
        return {"broken": self.world.broken}

    async def apply(self) -> None:
        self.world.log.append("apply")
        self.world.applied += 1
        self.world.broken = self.world.bites
        if self.raises:
            raise DrillError("half done")

    async def undo(self, prior: Prior) -> None:
        if self.world.undo_fails > 0:
            self.world.undo_fails -= 1
            raise DrillError("the API is away")
        self.world.log.append("undo")
        self.world.undone += 1
        self.world.broken = prior["broken"]

    async def residue(self, prior: Prior) -> list[str]:
        return ["the world is broken"] if self.world.broken and not prior["broken"] else []


@dataclass
class Stands:
    """A lease of the world's own."""

    world: World
    site: str = "private"
    undos: Sequence[Undo] = ()

    async def stand(self, undos: Sequence[Undo]) -> None:
        if not self.world.lease_stands:
            raise NotRun("the undo does not stand in private: its image cannot be pulled")
        self.undos = undos
        self.world.log.append("lease stands")

    async def keep(self) -> None:
        await asyncio.sleep(3600)

    async def renew(self) -> None:
        if self.lost:
            raise DrillError("too late")

    async def release(self) -> str:
        self.world.log.append("lease released")
        return self.world.lease_ends

    async def remove(self) -> None:
        self.world.log.append("lease removed")

    @property
    def lost(self) -> bool:
        return self.world.lease_is_lost and self.world.applied > 0

    @property
    def left_seconds(self) -> float:
        return self.world.lease_left_seconds


@dataclass
class Play:
    """One run of a drill against a world."""

    folder: Path
    world: World = field(default_factory=World)
    steady: Callable[[], bool] = lambda: True
    raises: bool = False
    stages: int = 1
    refusal: str | None = None
    progress: Callable[[str, Evidence], None] = lambda *_: None

    def probe(self, name: str, condition: Callable[[], bool]) -> Probe:
        return Asks(name, condition)

    def drill(self) -> Drill:
        world = self.world
        stage = Stage(
            name="broken",
            actions=[Breaks(world, self.raises)],
            symptom=self.probe("symptom", lambda: world.broken),
            bite_seconds=0.2,
            effect=[self.probe("dropped", lambda: world.is_dropped and bool(world.applied))],
            effect_seconds=0.6,
            quiet_seconds=0.1,
            restored=[self.probe("restored", lambda: not world.broken)],
            restore_seconds=0.3,
        )
        return Drill(
            name="trial",
            claim="the world was broken and went on",
            site="private",
            levels=frozenset(Level),
            steady=[self.probe("steady", lambda: self.steady() and (world.heals or not world.undone))],
            stages=[stage] * self.stages,
            abort=[self.probe("survivors", lambda: world.survivors_well)],
            objectives=[
                objective.recovered,
                objective.none_wrong,
                objective.hurt,
                objective.lasted,
                objective.dropped,
                objective.unvisited,
                objective.carried,
                objective.none_late,
                objective.steady_again,
                objective.clean,
            ],
        )

    async def play(self) -> Result:
        world = self.world
        self.journal = Journal(self.folder, "trial", "lab", {})

        async def users(stop: asyncio.Event, on_sample: Callable[[Sample], None]) -> LoadResult:
            while not stop.is_set():
                now, outcome = time.monotonic(), world.outcome()
                site = "public" if world.broken and not world.still_answers else "private"
                on_sample(Sample(now, now, now, 0, "dns", site, "127.0.0.1", 200, outcome, DIGEST, "seen"))
                await asyncio.sleep(0.005)
            return LoadResult([], Lag(0, 0, 0))

        self.course = Course(
            drill=self.drill(),
            evidence=Evidence(a_deployment(), "private"),
            users=users,
            leases=[Stands(world)],
            journal=self.journal,
            progress=self.progress,
            times=Times(
                warm_seconds=0.1,
                tail_seconds=0.1,
                steady_deadline_seconds=0.1,
                undo_deadline_seconds=0.5,
                phase_seconds=0.01,
            ),
            refusal=lambda _: self.refusal,
        )
        return await self.course.run()
