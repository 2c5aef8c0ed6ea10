"""Runs a drill: whatever it changed is put back before this returns or raises; the site's own lease sees to it too."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from drills import load, measure
from drills.changes import Changes, Standing
from drills.drill import (
    Abort,
    Drill,
    NotRun,
    Probe,
    Stage,
    Sustained,
    Verdict,
    ask_all,
    completed,
    failed,
    until_held,
)
from drills.evidence import Evidence, Moments, Result
from drills.figures import measures_of
from drills.journal import Journal
from drills.lease import Undo

ABORT_LOOK_SECONDS: Final = 2.0
ABORT_AFTER: Final = 4
"""So many looks in a row: one probe that is late stops no drill."""
LOOK_SECONDS: Final = 0.5
FRAME_BITE_SECONDS: Final = 20.0
AFTERWARDS_SECONDS: Final = 1.0
"""Watched once no cache and no request can lead to a site any more that DNS has dropped."""
GONE_SECONDS: Final = 10.0
"""For the symptom of the stage before to be gone; before the first there is none to wait for."""

Progress = Callable[[str, Evidence], None]
"""Called with the phase and the evidence so far."""
Users = Callable[[asyncio.Event, Callable[[load.Sample], None]], Awaitable[load.LoadResult]]
"""Asks until the event is set, handing on every finished request."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long each stretch around the disturbance lasts."""

    warm_seconds: float = 10.0
    tail_seconds: float = 10.0
    """Watched under load after restoration, for a second outage."""
    steady_deadline_seconds: float = 60.0
    undo_deadline_seconds: float = 30.0
    phase_seconds: float = 10.0
    """The fault comes at a random moment of so long a stretch: the health checks' interval."""


@dataclass
class Course:
    """One drill on its way."""

    drill: Drill
    evidence: Evidence
    users: Users
    leases: Sequence[Standing]
    journal: Journal
    progress: Progress
    times: Times
    refusal: Callable[[load.LoadResult], str | None]
    """Why a load's own lag makes it no evidence."""
    seed: int = 0
    _changes: Changes = field(init=False)
    _aborting: str = ""

    def __post_init__(self) -> None:
        self._changes = Changes(self.journal, self.leases, self.times.undo_deadline_seconds)

    async def run(self) -> Result:
        """To a verdict. Raises NotRun, Abort, or what a defect raises; everything is put back by then."""
        await self._steady("steady state", "steady state before", must=True)
        await self._changes.prepare(self.drill)
        try:
            self._tell("the undo takes its place in the site")
            await self._changes.secure()
            result = await self._loaded()
        finally:
            self.evidence.residue = await completed(asyncio.ensure_future(self._changes.close()))
        await self._steady("steady state again", "steady state after", must=False)
        return self._judged(result)

    async def _loaded(self) -> load.LoadResult:
        """The stages, under load, while somebody watches what has to hold."""
        stop = asyncio.Event()
        users = asyncio.ensure_future(self.users(stop, self.evidence.add))
        here = asyncio.current_task()
        watch = asyncio.ensure_future(self._watch_abort(users, here))
        try:
            try:
                await self._stages(users)
            finally:
                watch.cancel()
                stop.set()
                try:
                    result = await completed(users)
                finally:
                    load.append_jsonl(self.journal.samples, self.evidence.samples)
        except asyncio.CancelledError:
            if self._aborting:
                if here is not None:
                    here.uncancel()
                raise Abort(self._aborting) from None
            raise
        self.journal.entry("load", "users stopped", lag=vars(result.lag))
        return result

    async def _stages(self, users: asyncio.Future[load.LoadResult]) -> None:
        chance = random.Random(self.seed)  # noqa: S311  the moment of the fault is no secret
        phase = chance.uniform(0, self.times.phase_seconds)
        await self._pause(self.times.warm_seconds + phase, "steady under load")
        if users.done():
            users.result()
        self._check_load(self.times.warm_seconds + phase)
        self.journal.entry("phase", f"the fault comes {phase:.2f} s into the interval", phase_seconds=round(phase, 3))
        try:
            if self.drill.frame_symptom is not None:
                await self._not_there_yet(self.drill.frame_symptom, 0.0)
            await self._changes.apply(self._changes.frame)
            if self.drill.frame_symptom is not None:
                await self._bite(self.drill.frame_symptom, FRAME_BITE_SECONDS)
            for meter in self.drill.meters:
                await meter.begin()
            for stage, undos in zip(self.drill.stages, self._changes.staged, strict=True):
                await self._stage(stage, undos)
            if self.drill.frame_symptom is not None:
                await self._bite(self.drill.frame_symptom, 0.0, "the frame is still there")
            for meter in self.drill.meters:
                self.evidence.facts |= await meter.end()
        finally:
            await completed(asyncio.ensure_future(self._changes.put_back(self._changes.frame)))
        await self._pause(self.times.tail_seconds, "watching for a second outage")

    def _check_load(self, seconds: float) -> None:
        if not self.evidence.samples:
            raise NotRun(f"not one request was finished within {seconds:.0f} s")
        if wrong := measure.failures(self.evidence.samples):
            first = wrong[0]
            raise NotRun(
                f"{len(wrong)} of {len(self.evidence.samples)} requests failed before anything was broken,"
                f" the first: {first.outcome} from {first.address}: {first.detail}"
            )

    async def _stage(self, stage: Stage, undos: Sequence[Undo]) -> None:
        """Break, prove, watch, put back."""
        await self._not_there_yet(stage.symptom, GONE_SECONDS if self.evidence.stages else 0.0)
        moments = Moments(stage.name, time.monotonic())
        self.evidence.stages.append(moments)
        beside: list[asyncio.Future[None]] = []
        try:
            await self._changes.apply(undos)
            beside = [asyncio.ensure_future(a.sustain()) for a in stage.actions if isinstance(a, Sustained)]
            await self._bite(stage.symptom, stage.bite_seconds)
            moments.bitten = time.monotonic()
            beside.append(asyncio.ensure_future(self._watch_throughout(stage, moments)))
            await self._effect(stage, moments)
            for task in beside:
                if task.done():
                    task.result()
            if stage.lasting:
                symptom = [await stage.symptom.ask()]
                self.journal.observed(f"{stage.name}: still there", symptom)
                moments.lasted = not failed(symptom)
            else:
                moments.lasted = True
        finally:
            moments.restored = time.monotonic()
            self._tell("restoring")
            await completed(asyncio.ensure_future(self._changes.put_back(undos, beside)))
        if stage.restored:
            observations = await until_held(
                stage.restored, stage.restore_seconds, seen=lambda _: self._tell("restoring")
            )
            self.journal.observed(f"{stage.name}: restored", observations)
            if not failed(observations):
                moments.well = time.monotonic()
        await self._pause(stage.pause_seconds, "between two stages")

    async def _not_there_yet(self, symptom: Probe, seconds: float) -> None:
        """The symptom asked before the actions: only what came with them is theirs. Raises NotRun."""
        end = time.monotonic() + seconds
        seen = await symptom.ask()
        while seen.held and time.monotonic() < end:
            await asyncio.sleep(LOOK_SECONDS)
            seen = await symptom.ask()
        self.journal.observed("before the fault", [seen])
        if seen.held:
            raise NotRun(f"the symptom was there before anything was done: {seen}")

    async def _bite(self, symptom: Probe, seconds: float, moment: str = "the fault bites") -> None:
        seen = await until_held([symptom], seconds, pause_seconds=0.2)
        self.journal.observed(moment, seen)
        if failed(seen):
            raise NotRun(f"the fault did not {'bite' if seconds else 'last'}: {seen[0]}")

    async def _watch_throughout(self, stage: Stage, moments: Moments) -> None:
        while stage.throughout:
            moments.breaches += failed(await ask_all(stage.throughout))
            moments.looks += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def _effect(self, stage: Stage, moments: Moments) -> None:
        """Until the effect was seen, everything is quiet and the least time has passed; or its time is over."""
        if stage.effect:
            seen = await until_held(stage.effect, stage.effect_seconds, seen=lambda _: self._tell(stage.name))
            self.journal.observed(f"{stage.name}: effect", seen)
            if not failed(seen):
                moments.effect = time.monotonic()
        traffic = self.evidence.deployment.traffic
        forgotten = traffic.ttl_seconds + traffic.request_timeout_seconds + AFTERWARDS_SECONDS
        settled = time.monotonic() + (forgotten if moments.effect is not None else 0.0)
        least = moments.broken + stage.least_seconds
        end = max(max(moments.broken + stage.effect_seconds, least) + stage.quiet_seconds, settled)
        while time.monotonic() < end:
            self._tell(stage.name)
            if stage.always:
                moments.breaches += failed(await ask_all(stage.always))
                moments.looks += 1
            quiet = not stage.quiet_seconds or self.evidence.quiet_for(stage.quiet_seconds)
            if quiet and time.monotonic() >= max(settled, least):
                break
            await asyncio.sleep(LOOK_SECONDS)
        if moments.breaches:
            self.journal.observed(f"{stage.name}: did not hold", moments.breaches[:20])

    async def _watch_abort(self, users: asyncio.Future[load.LoadResult], course: asyncio.Task[Any] | None) -> None:
        """Cancel the course when what has to hold does not, several looks in a row, or nobody asks any more."""
        bad = 0
        while not self._aborting:
            await asyncio.sleep(ABORT_LOOK_SECONDS)
            lost = self._changes.lost
            try:
                observations = await ask_all(self.drill.abort) if self.evidence.stages else []
            except Exception as error:  # noqa: BLE001  a probe's defect: nobody would see what has to hold
                self._aborting = f"what has to hold cannot be watched: {type(error).__name__}: {error}"
                observations = []
            missing = failed(observations)
            bad = bad + 1 if missing else 0
            if lost:
                self._aborting = f"the lease in {', '.join(lost)} could not be renewed: the undo there is at work"
            elif users.done():
                self._aborting = "the users have stopped asking"
            elif bad >= ABORT_AFTER:
                self.journal.observed("abort", observations)
                self._aborting = "; ".join(map(str, missing))
        self.journal.entry("abort", self._aborting)
        if course is not None:
            course.cancel()

    async def _steady(self, phase: str, moment: str, *, must: bool) -> None:
        observations = await until_held(
            self.drill.steady,
            self.times.steady_deadline_seconds,
            seen=lambda _: self._tell(phase),
        )
        self.journal.observed(moment, observations)
        if must and (missing := failed(observations)):
            raise NotRun(f"no steady state to start from: {'; '.join(map(str, missing))}")
        self.evidence.after = observations

    async def _pause(self, seconds: float, phase: str) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._tell(phase)
            await asyncio.sleep(min(0.5, left))

    def _tell(self, phase: str) -> None:
        """Progress; a terminal that is gone, which rich answers with SystemExit, keeps nothing from being put back."""
        with contextlib.suppress(Exception, SystemExit):
            self.progress(phase, self.evidence)

    def _judged(self, result: load.LoadResult) -> Result:
        """Hold what was measured against the claim."""
        evidence = self.evidence
        findings = [objective(evidence) for objective in self.drill.objectives]
        measures = measures_of(evidence, result)
        begun = evidence.broken or evidence.started
        if early := measure.failures([s for s in evidence.samples if s.finished < begun]):
            reason = f"{len(early)} requests failed before anything was broken, the first: {early[0].outcome}"
            return Result(Verdict.NOT_RUN, reason, findings, measures)
        if refusal := self.refusal(result):
            return Result(Verdict.NOT_RUN, f"{refusal}: no evidence; run it on a quieter machine", findings, measures)
        missed = [finding for finding in findings if not finding.held]
        if not missed:
            return Result(Verdict.HELD, self.drill.claim, findings, measures)
        reason = "; ".join(f"{finding.objective}: {finding.measured}, promised {finding.limit}" for finding in missed)
        if bad := failed(evidence.after):
            reason += f" ({'; '.join(map(str, bad))})"
        return Result(Verdict.DEVIATED, reason, findings, measures)
