"""One drill from its request to its journal: outputs, lock, guard, run, report."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from drills import catalogue, load, settle
from drills.budget import budget
from drills.changes import Standing
from drills.choice import Choice
from drills.drill import Abort, Drill, DrillError, Level, NotRun, Observation, Verdict
from drills.evidence import Evidence, Result
from drills.expectation import PATH, gather
from drills.guard import LAB, Guard, Rules, refusals
from drills.headroom import headroom
from drills.journal import Journal
from drills.lease import Lease
from drills.run import Course, Progress, Times, Users
from signals import LockedError, SignalError, SnapshotError, snapshot
from signals.lock import hold
from signals.store import stores_of
from stacks.contract import ContractError, Deployment

OUTPUTS_DEADLINE_SECONDS: Final = 120
STOPPED: Final = "stopped from outside"
RATE_LIMIT: Final = 1000
"""Requests per second one generator can start on time."""
LEASE_SECONDS: Final = {LAB: 15.0}
DEFAULT_LEASE_SECONDS: Final = 60.0
LEASE_LIMITS: Final = (15.0, 300.0)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asks for."""

    name: str
    env: str
    fault: str = ""
    site: str = "private"
    level: Level | None = None
    rate_per_second: float = 50.0
    users: int = 26
    classes: tuple[str, ...] = ()
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(2**31))
    """Decides the fault's moment within the health checks' interval."""
    token: str = ""
    lease_seconds: float = 0.0
    outputs: Path | None = None
    """A signed snapshot to read instead of the engine's state."""

    def __post_init__(self) -> None:
        if self.users < 1 or not 0 < self.rate_per_second <= RATE_LIMIT:
            raise NotRun(
                f"{self.users} users at {self.rate_per_second:g} requests/s; at least one user,"
                f" and a rate above 0 and up to {RATE_LIMIT}"
            )
        if self.lease_seconds and not LEASE_LIMITS[0] <= self.lease_seconds <= LEASE_LIMITS[1]:
            raise NotRun(
                f"a lease of {self.lease_seconds:g} s; it lasts {LEASE_LIMITS[0]:g} to {LEASE_LIMITS[1]:g} s, or 0:"
                " shorter is lost to one slow answer, longer leaves people waiting for the undo of a dead drill"
            )

    @property
    def chosen_level(self) -> Level:
        """The level asked for, or the environment's own."""
        return self.level or Rules.of(self.env).default_level

    @property
    def lease(self) -> float:
        """Seconds without a renewal after which the site puts everything back."""
        return self.lease_seconds or LEASE_SECONDS.get(self.env, DEFAULT_LEASE_SECONDS)

    def document(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "site": self.site,
            "fault": self.fault,
            "level": self.chosen_level,
            "rate_per_second": self.rate_per_second,
            "users": self.users,
            "classes": list(self.classes),
            "seed": self.seed,
            "lease_seconds": self.lease,
        }


@dataclass(frozen=True)
class Plan:
    """A drill that has been asked for and looked at, with nothing touched."""

    request: Request
    deployment: Deployment
    drill: Drill
    conditions: list[Observation]


def home() -> Path:
    """Where Tandem keeps what it writes."""
    return Path(os.environ.get("TANDEM_HOME", ".tandem")).resolve()


def folder_of(env: str) -> Path:
    """Where the journals of an environment are."""
    return home() / env / "drills"


def read_deployment(env: str, outputs: Path | None) -> Deployment:
    """Outputs of every stack, from the engine or a signed snapshot; NotRun when they are not to be had."""
    try:
        found = _ask_engine(env) if outputs is None else snapshot.read(outputs, env, home()).outputs
        return Deployment.read(env, found)
    except (OSError, ValueError, ContractError, SnapshotError, subprocess.TimeoutExpired) as error:
        raise NotRun(f"no stack outputs of {env}: {error}") from error


def _ask_engine(env: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tandem", "outputs", "--env", env, "--json"],
        capture_output=True,
        text=True,
        timeout=OUTPUTS_DEADLINE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise NotRun(f"no stack outputs of {env}: {done.stderr.strip()[-500:]}")
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


async def plan(request: Request, deployment: Deployment) -> Plan:
    """The drill and whether it may run. Raises NotRun for one that cannot be made for this deployment."""
    choice = Choice(site=request.site, fault=request.fault, level=request.chosen_level)
    drill = await asyncio.to_thread(catalogue.find, request.name, deployment, choice)
    kinds = len(request.classes or drill.classes) * max(1, len(drill.source_addresses))
    if request.users < kinds:
        raise NotRun(f"users is {request.users}; {drill.name} has {kinds} kinds of them: ask for {kinds} or more")
    guard = Guard(
        deployment=deployment,
        drill=drill,
        site=request.site,
        level=request.chosen_level,
        rules=Rules.of(request.env),
        folder=folder_of(request.env),
        token=request.token,
        words=f"{request.name}{f' --fault {request.fault}' if request.fault else ''}",
        headroom=lambda: headroom(deployment, request.site, extra_per_second=request.rate_per_second),
        budget=lambda: budget(deployment),
    )
    return Plan(request, deployment, drill, await guard.ask())


async def observe(planned: Plan) -> list[Observation]:
    """Level observe: the steady state's probes and nothing else."""
    return list(await asyncio.gather(*(probe.ask() for probe in planned.drill.steady)))


def execute(request: Request, progress: Progress, say: Callable[[str], None], make: Make | None = None) -> Journal:
    """Run it to its verdict; the closed journal. Raises NotRun when it does not get as far as a journal."""
    if request.chosen_level is Level.OBSERVE:
        raise NotRun("level observe asks and touches nothing, so there is nothing to run; choose shadow or live")
    deployment = read_deployment(request.env, request.outputs)
    stores = stores_of(deployment.storage)
    label = f"drill {request.name}{f' {request.fault}' if request.fault else ''}"
    try:
        with hold(request.env, home() / request.env, stores, label, say=say, lost=_end_of_lock(say)):
            return _locked(request, deployment, progress, say, make or Make())
    except (LockedError, DrillError) as error:
        raise NotRun(str(error)) from error
    except SignalError as error:
        raise NotRun(f"the environment's lock: {error}") from error


@dataclass(frozen=True)
class Make:
    """How the parts of a run are made; other ways are for showing that a drill notices when they do not work."""

    drill: Callable[[Drill], Drill] = lambda drill: drill
    lease: Callable[[Lease], Standing] = lambda lease: lease
    times: Times | None = None


def _end_of_lock(say: Callable[[str], None]) -> Callable[[str], None]:
    def lost(why: str) -> None:
        try:
            say(f"the environment's lock is lost: {why}; putting back and ending")
        finally:  # a terminal that is gone does not keep the drill going
            signal.raise_signal(signal.SIGINT)

    return lost


def _locked(
    request: Request, deployment: Deployment, progress: Progress, say: Callable[[str], None], make: Make
) -> Journal:
    folder = folder_of(request.env)
    planned = asyncio.run(_prepared(request, deployment, folder, say))
    drill = make.drill(planned.drill)
    journal = Journal(
        folder,
        drill.name,
        request.env,
        request.document(),
        deployment.traffic.zone_id,
        claim=drill.claim,
        outputs_digest=_digest(deployment),
        conditions=[vars(each) for each in planned.conditions],
    )
    result = _run(request, deployment, drill, journal, progress, make)
    journal.end(result.verdict, result.reason, result.findings, result.measures)
    return journal


async def _prepared(request: Request, deployment: Deployment, folder: Path, say: Callable[[str], None]) -> Plan:
    await settle.leases(deployment, say, undo=False)
    await settle.journals(deployment, folder, say, undo=False)
    planned = await plan(request, deployment)
    if refused := refusals(planned.conditions):
        raise NotRun(f"the guard does not let it in: {'; '.join(map(str, refused))}")
    return planned


def _run(
    request: Request,
    deployment: Deployment,
    drill: Drill,
    journal: Journal,
    progress: Progress,
    make: Make,
) -> Result:
    """Run to a verdict under signals."""

    async def main() -> Result:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _cancel, asyncio.current_task())
        settings = await _load(request, deployment, drill)
        sites = sorted({action.site for action in drill.actions})

        def told(text: str) -> None:
            journal.entry("lease", text)

        leases = [
            make.lease(
                Lease(
                    deployment, site, journal.drill_id, request.lease, avoid_nodes=tuple(drill.avoid_nodes), told=told
                )
            )
            for site in sites
        ]
        course = Course(
            drill=drill,
            evidence=Evidence(deployment, request.site, source_addresses=drill.source_addresses),
            users=_users(settings),
            leases=leases,
            journal=journal,
            progress=progress,
            times=make.times or Times(phase_seconds=deployment.traffic.health_interval_seconds),
            refusal=lambda result: load.refusal(result.lag, settings),
            seed=request.seed,
        )
        return await course.run()

    try:
        return asyncio.run(main())
    except NotRun as error:
        return Result(Verdict.NOT_RUN, f"{error}; {_left(journal)}")
    except Abort as error:
        return Result(Verdict.ABORTED, f"{error}; {_left(journal)}")
    except (asyncio.CancelledError, KeyboardInterrupt):
        return Result(Verdict.ABORTED, f"{STOPPED}; {_left(journal)}")
    except Exception as error:  # noqa: BLE001  a defect of the drill must not read as a verdict on the system
        journal.entry("defect", "".join(traceback.format_exception(error)))
        return Result(Verdict.ABORTED, f"{type(error).__name__}: {error}; {_left(journal)}")


async def _load(request: Request, deployment: Deployment, drill: Drill) -> load.LoadSettings:
    expectation = await gather(deployment)
    traffic = deployment.traffic
    return load.LoadSettings(
        rate_per_second=request.rate_per_second,
        users=request.users,
        request_timeout_seconds=traffic.request_timeout_seconds,
        resolver=traffic.resolver,
        scheme=traffic.scheme,
        host=traffic.shadow_name if drill.shadow else traffic.service_name,
        port=next(iter(traffic.sites.values())).port,
        path=PATH,
        make_request=expectation.body,
        judge=expectation.judge,
        classes=request.classes or drill.classes,
        source_addresses=drill.source_addresses,
    )


def _users(settings: load.LoadSettings) -> Users:
    async def users(stop: asyncio.Event, on_sample: Callable[[load.Sample], None]) -> load.LoadResult:
        return await load.run(settings, stop, on_sample=on_sample)

    return users


def _left(journal: Journal) -> str:
    """Whether a drill that was stopped left something changed."""
    if journal.clean:
        return "nothing is left changed"
    return (
        "what it changed is NOT all put back: the lease in the site does that;"
        f" see it done: tandem drill undo --env {journal.content['env']}"
    )


def _cancel(task: asyncio.Task[Any] | None) -> None:
    """Stop the drill where it is; its own clean-up still runs."""
    if task is not None:
        task.cancel()


def _digest(deployment: Deployment) -> str:
    """sha256 of the outputs the drill went by."""
    return "sha256:" + hashlib.sha256(repr(deployment).encode()).hexdigest()


def undo(env: str, outputs: Path | None, say: Callable[[str], None]) -> Sequence[Path]:
    """Wait for the leases of dead drills, put back what is left all the same; the journals closed. DrillError: left."""
    deployment = read_deployment(env, outputs)

    async def main() -> list[Path]:
        await settle.leases(deployment, say, undo=True)
        return await settle.journals(deployment, folder_of(env), say, undo=True)

    try:
        with hold(env, home() / env, stores_of(deployment.storage), "drill undo", say=say):
            return asyncio.run(main())
    except SignalError as error:
        raise NotRun(str(error)) from error
