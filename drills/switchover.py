"""Claim: when every serving pod of a site is gone, users are answered by the others within the arithmetic of DNS."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
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
    ask_all,
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

STEADY_DEADLINE_SECONDS: Final = 30.0
BITE_DEADLINE_SECONDS: Final = 20.0
RESTORE_DEADLINE_SECONDS: Final = 150.0
MARGIN_SECONDS: Final = 15.0
"""Watched beyond the bound, so that a recovery that comes too late is measured and not only missed."""


@dataclass(frozen=True, kw_only=True)
class SwitchoverSettings:
    """What is broken, how hard the users ask, and how long each stretch lasts."""

    fault: str = "down"
    site: str
    rate_per_second: float = 50.0
    users: int = 25
    warm_seconds: float = 10.0
    quiet_seconds: float = 8.0
    """Time without a failure after which the switch counts as complete."""
    tail_seconds: float = 10.0
    """Watched under load after restoration, for a second outage."""
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(2**31))

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise NotRun(f"fault {self.fault!r} is not known; choose one of {', '.join(sorted(FAULTS))}")
        if self.users < 1 or self.rate_per_second <= 0:
            raise NotRun(f"{self.users} users at {self.rate_per_second} requests/s; both must be above zero")


Progress = Callable[[str, "Watch"], None]
"""Called with the phase and the samples so far."""


@dataclass
class Watch:
    """The samples of the running load, and the moments that divide them."""

    samples: list[load.Sample] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    broken: float | None = None
    restored: float | None = None
    last_failure: float | None = None

    def add(self, sample: load.Sample) -> None:
        """Take one finished request."""
        self.samples.append(sample)
        if sample.outcome != measure.OK:
            self.last_failure = max(sample.finished, self.last_failure or 0.0)

    def quiet_for(self, seconds: float) -> bool:
        """Whether nothing has failed for that long."""
        return time.monotonic() - (self.last_failure or self.started) >= seconds


@dataclass
class Result:
    """How the drill ended and what it rests on."""

    verdict: Verdict
    reason: str
    findings: list[Finding] = field(default_factory=list)
    measures: dict[str, Any] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)


def steady_state(deployment: Deployment) -> list[Probe]:
    """What must hold before anything is touched, and again at the end."""
    sites = sorted(deployment.traffic.sites)
    used = [site for site in sites if deployment.traffic.sites[site].weight > 0]
    return [
        *(PodsReady(deployment, site) for site in sites),
        *(GoldenAnswer(deployment, site) for site in sites),
        *(DnsHealth(deployment, site) for site in sites),
        *(DnsNames(deployment, site) for site in used),
    ]


async def run(deployment: Deployment, settings: SwitchoverSettings, journal: Journal, progress: Progress) -> Result:
    """Run the drill; whatever was changed is put back before this returns or raises."""
    watch = Watch()
    survivors = sorted(set(deployment.traffic.sites) - {settings.site})
    if settings.site not in deployment.traffic.sites:
        raise NotRun(
            f"site {settings.site!r} is not declared; choose one of {', '.join(sorted(deployment.traffic.sites))}"
        )
    steady = steady_state(deployment)

    progress("steady state", watch)
    observations = await until_held(steady, STEADY_DEADLINE_SECONDS)
    journal.observed("steady state before", observations)
    if missing := failed(observations):
        raise NotRun(f"no steady state to start from: {'; '.join(map(str, missing))}")
    expectation = await gather(deployment)

    stop = asyncio.Event()
    watch.started = time.monotonic()
    users = asyncio.create_task(load.run(_load(deployment, settings, expectation), stop, on_sample=watch.add))
    action = FAULTS[settings.fault](deployment, settings.site)
    try:
        await _under_load(deployment, settings, journal, progress, watch, action)
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            result = await users
    journal.entry("load", "users stopped", lag=vars(result.lag))

    progress("steady state again", watch)
    observations = await until_held(steady, STEADY_DEADLINE_SECONDS)
    journal.observed("steady state after", observations)
    return _evaluate(deployment, settings, watch, survivors, observations, vars(result.lag))


async def _under_load(
    deployment: Deployment,
    settings: SwitchoverSettings,
    journal: Journal,
    progress: Progress,
    watch: Watch,
    action: Action,
) -> None:
    chance = random.Random(settings.seed)  # noqa: S311  the moment of the fault is no secret
    phase = chance.uniform(0, deployment.traffic.health_interval_seconds)
    await _pause(settings.warm_seconds + phase, "steady under load", progress, watch)
    if wrong := measure.failures(watch.samples):
        first = wrong[0]
        raise NotRun(
            f"{len(wrong)} of {len(watch.samples)} requests failed before anything was broken,"
            f" the first: {first.outcome} from {first.address}: {first.detail}"
        )
    prior = await action.prepare()
    journal.undo_stands(FAULT_ACTIONS[settings.fault], {"site": settings.site}, prior)
    try:
        watch.broken = time.monotonic()
        journal.entry("action", action.name, phase_seconds=round(phase, 3), prior=prior)
        await action.apply()
        symptom = await until_held([Unreachable(deployment, settings.site)], BITE_DEADLINE_SECONDS, pause_seconds=0.2)
        journal.observed("the fault bites", symptom)
        if failed(symptom):
            raise NotRun(f"the fault did not bite: {symptom[0]}")
        await _until_recovered(deployment, settings, journal, progress, watch)
    finally:
        progress("restoring", watch)
        await asyncio.shield(_restore(action, prior, journal))
        watch.restored = time.monotonic()
    restored: list[Probe] = [
        PodsReady(deployment, settings.site),
        GoldenAnswer(deployment, settings.site),
        DnsHealth(deployment, settings.site),
    ]
    if deployment.traffic.sites[settings.site].weight > 0:
        restored.append(DnsNames(deployment, settings.site))
    observations = await until_held(restored, RESTORE_DEADLINE_SECONDS, seen=lambda _: progress("restoring", watch))
    journal.observed("restored", observations)
    if late := failed(observations):
        journal.entry("restoration", f"not complete within {RESTORE_DEADLINE_SECONDS:.0f} s: {late[0]}")
    await _pause(settings.tail_seconds, "watching for a second outage", progress, watch)


async def _until_recovered(
    deployment: Deployment, settings: SwitchoverSettings, journal: Journal, progress: Progress, watch: Watch
) -> None:
    """Until the DNS service has dropped the site and nothing fails any more, or the bound is well past."""
    bound = measure.recovery_bound_seconds(deployment.traffic)
    end = (watch.broken or 0.0) + bound + MARGIN_SECONDS
    dropped = DnsHealth(deployment, settings.site, healthy=False)
    while time.monotonic() < end:
        progress("site lost", watch)
        observation: Observation = (await ask_all([dropped]))[0]
        if observation.held:
            journal.observed("DNS dropped the site", [observation])
            break
        await asyncio.sleep(0.5)
    cached_until = time.monotonic() + deployment.traffic.ttl_seconds
    await until(
        lambda: time.monotonic() >= cached_until and watch.quiet_for(settings.quiet_seconds),
        max(0.0, end - time.monotonic()),
    )


async def _restore(action: Action, prior: dict[str, Any], journal: Journal) -> None:
    """Try to undo until it is done, for half a minute."""
    end = time.monotonic() + 30
    while True:
        try:
            await action.undo(prior)
        except DrillError as error:
            journal.entry("undo", f"failed: {error}")
            if time.monotonic() > end:
                raise
            await asyncio.sleep(1)
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


def _evaluate(
    deployment: Deployment,
    settings: SwitchoverSettings,
    watch: Watch,
    survivors: Sequence[str],
    after: Sequence[Observation],
    lag: dict[str, float],
) -> Result:
    """Hold what was measured against the claim."""
    broken, restored = watch.broken or watch.started, watch.restored or time.monotonic()
    during = [sample for sample in watch.samples if sample.finished >= broken and sample.intended < restored]
    tail = [sample for sample in watch.samples if sample.intended >= restored]
    bound = measure.recovery_bound_seconds(deployment.traffic)
    recovery = measure.recovery_seconds(during, broken)
    wrong = [sample for sample in watch.samples if sample.outcome == "wrong"]
    answered = [s for s in during if s.outcome == measure.OK and s.site in survivors and s.finished > broken + recovery]
    late = measure.failures(tail)
    not_steady = failed(after)
    findings = [
        Finding("recovery, last failure of any user", f"{recovery:.1f} s", f"<= {bound:.1f} s", recovery <= bound),
        Finding("wrong answers", str(len(wrong)), "0", not wrong),
        Finding("answers by the survivors after recovery", str(len(answered)), ">= 1", bool(answered)),
        Finding("failures after restoration", str(len(late)), "0", not late),
        Finding("probes of the steady state that fail after", str(len(not_steady)), "0", not not_steady),
    ]
    interval_budget = 1000 * 0.05 * settings.users / settings.rate_per_second
    measures = {
        "recovery_seconds": round(recovery, 3),
        "recovery_bound_seconds": bound,
        "fault_seconds": round(restored - broken, 3),
        "digests": {site: deployment.serving[site].model_digest for site in sorted(deployment.serving)},
        "whole": measure.summary(watch.samples),
        "before": measure.summary([sample for sample in watch.samples if sample.finished < broken]),
        "during": measure.summary(during),
        "after": measure.summary(tail),
        "generator_lag_ms": lag,
        "generator_lag_budget_ms": round(interval_budget, 1),
        "timeline": measure.timeline(watch.samples, broken),
    }
    missed = [finding for finding in findings if not finding.held]
    if not missed:
        reason = f"recovered in {recovery:.1f} s of {bound:.1f} s, {len(wrong)} wrong answers"
        return Result(Verdict.HELD, reason, findings, measures, watch)
    reason = "; ".join(f"{finding.objective}: {finding.measured}, promised {finding.limit}" for finding in missed)
    if not_steady:
        reason += f" ({'; '.join(map(str, not_steady))})"
    return Result(Verdict.DEVIATED, reason, findings, measures, watch)
