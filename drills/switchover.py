"""Claim: when every serving pod of a site is gone, users are answered by the others within the arithmetic of DNS."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from drills import load, measure
from drills.actions import ScaleToZero
from drills.drill import (
    Action,
    DrillError,
    Finding,
    NotRun,
    Observation,
    Probe,
    Verdict,
    completed,
    failed,
    until,
    until_held,
)
from drills.expectation import PATH, Expectation, gather
from drills.journal import Journal
from drills.probes import DnsHealth, DnsNames, GoldenAnswer, PodsReady, Unreachable
from stacks.contract import Deployment

NAME: Final = "switchover"
FAULTS: Final[dict[str, Callable[[Deployment, str], Action]]] = {"down": ScaleToZero}
FAULT_ACTIONS: Final = {"down": "scale-to-zero"}
"""The name under which `drills.actions` finds the fault's action again."""
LAG_LIMIT_MS: Final = 1000
"""The second of grace in the bound is the generator's: later than that, it could have missed a failure."""
OK_STATUS: Final = 200
RATE_LIMIT: Final = 1000
"""Requests per second one generator can start on time."""


@dataclass(frozen=True, kw_only=True)
class SwitchoverSettings:
    """What is broken, how hard the users ask, and how long each stretch lasts."""

    fault: str = "down"
    site: str
    rate_per_second: float = 50.0
    users: int = 25
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(2**31))
    """Decides the fault's moment within the health checks' interval."""
    warm_seconds: float = 10.0
    quiet_seconds: float = 8.0
    """Time without a failure after which the switch counts as complete."""
    margin_seconds: float = 15.0
    """Watched beyond the bound, so that a recovery that comes too late is measured and not only missed."""
    tail_seconds: float = 10.0
    """Watched under load after restoration, for a second outage."""
    steady_deadline_seconds: float = 30.0
    bite_deadline_seconds: float = 20.0
    undo_deadline_seconds: float = 30.0
    restore_deadline_seconds: float = 150.0

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise NotRun(f"fault {self.fault!r} is not known; choose one of {', '.join(sorted(FAULTS))}")
        if self.users < 1 or not 0 < self.rate_per_second <= RATE_LIMIT:
            raise NotRun(
                f"{self.users} users at {self.rate_per_second:g} requests/s; at least one user,"
                f" and a rate above 0 and up to {RATE_LIMIT}"
            )


@dataclass
class Watch:
    """The samples of the running load, and the moments that divide them."""

    samples: list[load.Sample] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    broken: float | None = None
    dropped: float | None = None
    """When the DNS service was first seen not to lead to the site any more."""
    still_broken: bool = False
    """Whether the symptom was there to the end of the fault."""
    restored: float | None = None
    last_failure: float | None = None

    def add(self, sample: load.Sample) -> None:
        """Take one finished request."""
        self.samples.append(sample)
        if sample.outcome != measure.OK:
            self.last_failure = max(sample.finished, self.last_failure or 0.0)

    def quiet_for(self, seconds: float) -> bool:
        """Whether nothing has failed for that long, nor has anything been broken since."""
        return time.monotonic() - max(self.started, self.broken or 0.0, self.last_failure or 0.0) >= seconds


Progress = Callable[[str, Watch], None]
"""Called with the phase and the samples so far."""
Users = Callable[[asyncio.Event, Callable[[load.Sample], None]], Awaitable[load.LoadResult]]
"""Asks until the event is set, handing on every finished request."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the drill asks, changes and measures with."""

    steady: Sequence[Probe]
    """What must hold before anything is touched, and again at the end."""
    action: Action
    symptom: Probe
    """Independent proof that the action bit."""
    dropped: Probe
    """The DNS service no longer leads users to the site."""
    restored: Sequence[Probe]
    users: Users


@dataclass
class Result:
    """How the drill ended and what it rests on."""

    verdict: Verdict
    reason: str
    findings: list[Finding] = field(default_factory=list)
    measures: dict[str, Any] = field(default_factory=dict)


def parts(deployment: Deployment, settings: SwitchoverSettings) -> Parts:
    """The drill's parts for a deployment. Raises NotRun for a site that is not declared."""
    sites = sorted(deployment.traffic.sites)
    if settings.site not in sites:
        raise NotRun(f"site {settings.site!r} is not declared; choose one of {', '.join(sites)}")

    def of(site: str) -> list[Probe]:
        named: list[Probe] = [DnsNames(deployment, site)] if deployment.traffic.sites[site].weight > 0 else []
        return [PodsReady(deployment, site), GoldenAnswer(deployment, site), DnsHealth(deployment, site), *named]

    async def users(stop: asyncio.Event, on_sample: Callable[[load.Sample], None]) -> load.LoadResult:
        return await load.run(_load(deployment, settings, await gather(deployment)), stop, on_sample=on_sample)

    return Parts(
        steady=[probe for site in sites for probe in of(site)],
        action=FAULTS[settings.fault](deployment, settings.site),
        symptom=Unreachable(deployment, settings.site),
        dropped=DnsNames(deployment, settings.site, leads=False),
        restored=of(settings.site),
        users=users,
    )


async def run(
    deployment: Deployment,
    settings: SwitchoverSettings,
    given: Parts,
    journal: Journal,
    progress: Progress,
) -> Result:
    """Run the drill; whatever was changed is put back before this returns or raises."""
    watch = Watch()
    progress("steady state", watch)
    observations = await until_held(given.steady, settings.steady_deadline_seconds)
    journal.observed("steady state before", observations)
    if missing := failed(observations):
        raise NotRun(f"no steady state to start from: {'; '.join(map(str, missing))}")

    stop = asyncio.Event()
    users = asyncio.ensure_future(given.users(stop, watch.add))
    try:
        await _under_load(deployment, settings, given, journal, progress, watch, users)
    finally:
        stop.set()
        try:
            result = await completed(users)
        finally:
            load.append_jsonl(journal.samples, watch.samples)
    journal.entry("load", "users stopped", lag=vars(result.lag))

    progress("steady state again", watch)
    observations = await until_held(given.steady, settings.steady_deadline_seconds)
    journal.observed("steady state after", observations)
    return evaluate(deployment, settings, watch, observations, result.lag)


async def _under_load(
    deployment: Deployment,
    settings: SwitchoverSettings,
    given: Parts,
    journal: Journal,
    progress: Progress,
    watch: Watch,
    users: asyncio.Future[load.LoadResult],
) -> None:
    chance = random.Random(settings.seed)  # noqa: S311  the moment of the fault is no secret
    phase = chance.uniform(0, deployment.traffic.health_interval_seconds)
    await _pause(settings.warm_seconds + phase, "steady under load", progress, watch)
    if users.done():
        users.result()
    if not watch.samples:
        raise NotRun(f"not one request was finished within {settings.warm_seconds + phase:.0f} s")
    if wrong := measure.failures(watch.samples):
        first = wrong[0]
        raise NotRun(
            f"{len(wrong)} of {len(watch.samples)} requests failed before anything was broken,"
            f" the first: {first.outcome} from {first.address}: {first.detail}"
        )
    prior = await given.action.prepare()
    journal.undo_stands(FAULT_ACTIONS[settings.fault], {"site": settings.site}, prior)
    try:
        watch.broken = time.monotonic()
        journal.entry("action", given.action.name, phase_seconds=round(phase, 3), prior=prior)
        await completed(asyncio.ensure_future(given.action.apply()))
        symptom = await until_held([given.symptom], settings.bite_deadline_seconds, pause_seconds=0.2)
        journal.observed("the fault bites", symptom)
        if failed(symptom):
            raise NotRun(f"the fault did not bite: {symptom[0]}")
        await _until_recovered(deployment, settings, given, journal, progress, watch)
        symptom = [await given.symptom.ask()]
        journal.observed("the fault is still there", symptom)
        watch.still_broken = not failed(symptom)
    finally:
        progress("restoring", watch)
        watch.restored = time.monotonic()
        await completed(asyncio.ensure_future(_undo(settings, given.action, prior, journal)))
    observations = await until_held(
        given.restored, settings.restore_deadline_seconds, seen=lambda _: progress("restoring", watch)
    )
    journal.observed("restored", observations)
    await _pause(settings.tail_seconds, "watching for a second outage", progress, watch)


async def _until_recovered(
    deployment: Deployment,
    settings: SwitchoverSettings,
    given: Parts,
    journal: Journal,
    progress: Progress,
    watch: Watch,
) -> None:
    """Until the DNS service has dropped the site and nothing fails any more, or the bound is well past."""
    end = time.monotonic() + measure.recovery_bound_seconds(deployment.traffic) + settings.margin_seconds
    observations = await until_held(
        [given.dropped], end - time.monotonic(), seen=lambda _: progress("site lost", watch)
    )
    journal.observed("DNS dropped the site", observations)
    if not failed(observations):
        watch.dropped = time.monotonic()
    cached_until = time.monotonic() + deployment.traffic.ttl_seconds
    await until(
        lambda: time.monotonic() >= cached_until and watch.quiet_for(settings.quiet_seconds),
        max(0.0, end - time.monotonic()),
    )


async def _undo(settings: SwitchoverSettings, action: Action, prior: dict[str, Any], journal: Journal) -> None:
    """Try to undo until it is done or the deadline passes."""
    end = time.monotonic() + settings.undo_deadline_seconds
    while True:
        try:
            await action.undo(prior)
        except DrillError as error:
            journal.entry("undo", f"failed: {error}")
            if time.monotonic() > end:
                raise
            await asyncio.sleep(min(1.0, settings.undo_deadline_seconds / 10))
        else:
            journal.entry("undo", f"undone: {action.name}")
            journal.undone()
            return


async def _pause(seconds: float, phase: str, progress: Progress, watch: Watch) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        progress(phase, watch)
        await asyncio.sleep(min(0.5, left))


def _load(deployment: Deployment, settings: SwitchoverSettings, expectation: Expectation) -> load.LoadSettings:
    traffic = deployment.traffic
    return load.LoadSettings(
        rate_per_second=settings.rate_per_second,
        users=settings.users,
        request_timeout_seconds=traffic.request_timeout_seconds,
        resolver=traffic.resolver,
        scheme=traffic.scheme,
        host=traffic.service_name,
        port=next(iter(traffic.sites.values())).port,
        path=PATH,
        make_request=expectation.body,
        judge=expectation.judge,
    )


def evaluate(
    deployment: Deployment,
    settings: SwitchoverSettings,
    watch: Watch,
    after: Sequence[Observation],
    lag: load.Lag,
) -> Result:
    """Hold what was measured against the claim."""
    traffic = deployment.traffic
    broken, restored = watch.broken or watch.started, watch.restored or time.monotonic()
    before = [sample for sample in watch.samples if sample.finished < broken]
    during = [sample for sample in watch.samples if sample.finished >= broken and sample.intended < restored]
    tail = [sample for sample in watch.samples if sample.intended >= restored]
    bound = measure.recovery_bound_seconds(traffic)
    recovery = measure.recovery_seconds(during, broken)
    wrong = [sample for sample in watch.samples if sample.outcome == load.Outcome.WRONG]
    right = [sample for sample in during if sample.outcome == measure.OK]
    survived = [s for s in right if s.site != settings.site and s.intended > broken + recovery]
    hurt = measure.failures(during)
    gone = (watch.dropped or restored) + traffic.ttl_seconds + traffic.request_timeout_seconds
    ghosts = [sample for sample in right if sample.site == settings.site and sample.intended > gone]
    late = measure.failures(tail)
    not_steady = failed(after)
    findings = [
        Finding("recovery, last failure of any user", f"{recovery:.1f} s", f"<= {bound:.1f} s", recovery <= bound),
        Finding("wrong answers", str(len(wrong)), "0", not wrong),
        Finding("requests the fault hurt", str(len(hurt)), ">= 1", bool(hurt)),
        Finding("site still lost when the fault was lifted", _word(watch.still_broken), "yes", watch.still_broken),
        Finding("DNS dropped the site", _word(watch.dropped is not None), "yes", watch.dropped is not None),
        Finding("answers of the lost site after that", str(len(ghosts)), "0", not ghosts),
        Finding("answers of the survivors after recovery", str(len(survived)), ">= 1", bool(survived)),
        Finding("failures after restoration", str(len(late)), "0", not late),
        Finding("probes of the steady state that fail after", str(len(not_steady)), "0", not not_steady),
    ]
    measures = {
        "recovery_seconds": round(recovery, 3),
        "recovery_bound_seconds": bound,
        "fault_seconds": round(restored - broken, 3),
        "digests": {
            site: {
                "declared": deployment.serving[site].model_digest,
                "answered": sorted({s.digest or "" for s in watch.samples if s.site == site and s.status == OK_STATUS}),
            }
            for site in sorted(deployment.serving)
        },
        "whole": measure.summary(watch.samples),
        "before": measure.summary(before),
        "during": measure.summary(during),
        "after": measure.summary(tail),
        "generator_lag": vars(lag),
        "timeline": measure.timeline(watch.samples, broken),
    }
    if early := measure.failures(before):
        reason = f"{len(early)} requests failed before anything was broken, the first: {early[0].outcome}"
        return Result(Verdict.NOT_RUN, reason, findings, measures)
    if lag.max_ms > LAG_LIMIT_MS:
        reason = f"the load generator was up to {lag.max_ms:.0f} ms late, more than the {LAG_LIMIT_MS} ms of grace"
        return Result(Verdict.NOT_RUN, f"{reason}: no evidence; run it on a quieter machine", findings, measures)
    missed = [finding for finding in findings if not finding.held]
    if not missed:
        reason = f"recovered in {recovery:.1f} s of {bound:.1f} s, {len(wrong)} wrong answers"
        return Result(Verdict.HELD, reason, findings, measures)
    reason = "; ".join(f"{finding.objective}: {finding.measured}, promised {finding.limit}" for finding in missed)
    if not_steady:
        reason += f" ({'; '.join(map(str, not_steady))})"
    return Result(Verdict.DEVIATED, reason, findings, measures)


def _word(held: bool) -> str:
    return "yes" if held else "no"
