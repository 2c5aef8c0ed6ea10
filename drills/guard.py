"""Whether a drill may run: asked before anything is touched, and answered with the reasons.

Every environment: the outputs are of the environment that was named, the clusters say so too, the level fits the
drill, no other site is drained, and the others are big enough. Outside the lab also: armed by a token that has not
expired; for level live a second person's word, error budget left, and a drain drill that was held not long ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from drills.access import API_ERRORS, API_TIMEOUT_SECONDS, cluster
from drills.drill import Drill, DrillError, Level, Observation, Verdict
from drills.journal import read_journals
from signals import SignalError, marks
from signals.arming import Armed, read
from signals.store import stores_of
from stacks.contract import ENVIRONMENT_LABEL, Deployment

LAB: Final = "lab"
FRESH: Final = timedelta(days=7)
"""A drain drill older than this proves nothing about today."""
REHEARSED: Final = "drain"


@dataclass(frozen=True)
class Rules:
    """What an environment asks for."""

    armed: bool
    default_level: Level

    @classmethod
    def of(cls, env: str) -> Rules:
        """The lab's users are synthetic; everywhere else they are people."""
        return cls(armed=False, default_level=Level.LIVE) if env == LAB else cls(armed=True, default_level=Level.SHADOW)


Measured = Callable[[], Awaitable[Observation]]


@dataclass(frozen=True, kw_only=True)
class Guard:
    """One drill's request to be let in."""

    deployment: Deployment
    drill: Drill
    site: str
    """The one that is disturbed."""
    level: Level
    rules: Rules
    folder: Path
    """Journals of this environment."""
    token: str = ""
    words: str
    """The drill as the command line names it, with its fault."""
    headroom: Measured | None = None
    """Whether the other sites can carry the load of the one that is disturbed."""
    budget: Measured | None = None
    """Whether users have been failed less than was promised."""

    async def ask(self, now: datetime | None = None) -> list[Observation]:
        """Every condition with its answer; the drill may run when all of them hold."""
        moment = now or datetime.now(UTC)
        found = [self._level(), await asyncio.to_thread(self._environment)]
        if self.level is Level.OBSERVE:
            return found
        found.append(await asyncio.to_thread(self._undrained))
        if self.headroom is not None:
            found.append(await self.headroom())
        if not self.rules.armed:
            return found
        armed = await asyncio.to_thread(self._armed)
        found.append(self._token(armed, moment))
        if self.level is Level.LIVE:
            found += [self._approved(armed), self._rehearsed(moment)]
            if self.budget is not None:
                found.append(await self.budget())
        return found

    def _level(self) -> Observation:
        levels = ", ".join(level for level in Level if level in self.drill.levels)
        held = self.level in self.drill.levels or self.level is Level.OBSERVE
        return Observation("the drill runs at this level", held, f"level {self.level}; {self.drill.name}: {levels}")

    def _environment(self) -> Observation:
        name = "outputs and clusters are of this environment"
        env = self.deployment.env
        for site, platform in sorted(self.deployment.platform.items()):
            if platform.environment != env:
                return Observation(name, held=False, detail=f"{site} exports {platform.environment}, asked for {env}")
            try:
                namespace = cluster(self.deployment, site).core.read_namespace(
                    platform.namespace, _request_timeout=API_TIMEOUT_SECONDS
                )
            except (*API_ERRORS, DrillError) as error:
                return Observation(name, held=False, detail=f"{site}: {type(error).__name__} {error}"[:300])
            said = (namespace.metadata.labels or {}).get(ENVIRONMENT_LABEL)
            if said != env:
                detail = f"{site}: namespace {platform.namespace} is labelled {said}, asked for {env}"
                return Observation(name, held=False, detail=detail)
        return Observation(name, held=True, detail=env)

    def _undrained(self) -> Observation:
        """A store that cannot be asked may hold a mark: then it is not known."""
        name = "no other site is drained"
        kinds = (False, True) if self.level is Level.SHADOW else (False,)
        others = sorted(set(self.deployment.traffic.sites) - {self.site})
        for other in others:
            try:
                found = [each for shadow in kinds for each in marks.read(self.deployment, other, shadow=shadow)]
            except SignalError as error:
                return Observation(name, held=False, detail=f"{other}: {error}")
            for each in marks.counting(found):
                who = each.mark.who if each.mark else "unknown"
                detail = (
                    f"{other} is, by a mark of {who} in the store of {each.store}:"
                    f" tandem site restore {other} --env {self.deployment.env}"
                )
                return Observation(name, held=False, detail=detail)
            for each in marks.unknown(found):
                if each.counts:
                    detail = f"not known of {other}: the store of {each.store}: {each.error}"
                    return Observation(name, held=False, detail=detail)
        return Observation(name, held=True, detail=f"no mark of {', '.join(others) or 'any'}")

    def _armed(self) -> Armed | str:
        """The token, or why there is none."""
        if not self.token:
            return (
                f"no token for {self.drill.name}; arm it first: tandem drill arm {self.words}"
                f" --env {self.deployment.env} --site {self.site} --level {self.level}"
            )
        try:
            return read(stores_of(self.deployment.storage), self.token)
        except SignalError as error:
            return str(error)

    def _token(self, armed: Armed | str, now: datetime) -> Observation:
        name = "armed"
        if isinstance(armed, str):
            return Observation(name, held=False, detail=armed)
        wanted = (self.deployment.env, str(self.level), self.drill.name, self.site)
        if (armed.env, armed.level, armed.drill, armed.site) != wanted:
            detail = f"token {armed.token} is for {armed.drill} of {armed.site} at level {armed.level} in {armed.env}"
            return Observation(name, held=False, detail=detail)
        return Observation(name, held=not armed.expired(now), detail=f"by {armed.who} until {armed.until}")

    def _approved(self, armed: Armed | str) -> Observation:
        name = "a second person agreed"
        if isinstance(armed, str) or not armed.approved_by:
            detail = (
                f"nobody; a colleague types: tandem drill approve {self.token or 'TOKEN'} --env {self.deployment.env}"
            )
            return Observation(name, held=False, detail=detail)
        return Observation(name, held=True, detail=armed.approved_by)

    def _rehearsed(self, now: datetime) -> Observation:
        name = f"the newest {REHEARSED} drill of {self.site} was held, in the last {FRESH.days} days"
        newest = newest_ended(self.folder, REHEARSED, self.site, self.deployment)
        if newest is None:
            detail = f"no journal of one in this zone in {self.folder}: run it first"
            return Observation(name, held=False, detail=detail)
        ended, verdict = newest
        held = verdict == Verdict.HELD and timedelta(0) <= now - ended <= FRESH
        return Observation(name, held, f"{verdict}, {ended.isoformat(timespec='minutes')}")


def newest_ended(folder: Path, name: str, site: str, deployment: Deployment) -> tuple[datetime, Verdict] | None:
    """The last verdict on a claim about a site of this deployment, from a run that touched somebody, of every class."""
    found = []
    for _, content in read_journals(folder):
        settings = content.get("settings")
        asked = (content.get("drill"), content.get("env"), content.get("zone"))
        if asked != (name, deployment.env, deployment.traffic.zone_id) or not isinstance(settings, dict):
            continue
        if settings.get("level") not in (Level.SHADOW, Level.LIVE) or settings.get("site") != site:
            continue
        verdict = content.get("status")
        if verdict not in (Verdict.HELD, Verdict.DEVIATED) or (verdict == Verdict.HELD and settings.get("classes")):
            continue
        try:
            ended = datetime.fromisoformat(content["ended"])
        except (KeyError, TypeError, ValueError):
            continue
        if ended.tzinfo is not None:
            found.append((ended, Verdict(verdict)))
    return max(found, default=None)


def refusals(observations: Sequence[Observation]) -> list[Observation]:
    """What keeps a drill out."""
    return [observation for observation in observations if not observation.held]
