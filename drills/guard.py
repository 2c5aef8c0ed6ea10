"""Whether a drill may run: asked before anything is touched, and answered with the reasons.

Every environment: the outputs are of the environment that was named, the clusters say so too, the level fits the
drill, and the other sites are well and big enough. Outside the lab also: armed by a token that has not expired; for
level live a second person's word, error budget left, and a drain drill that was held not long ago.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from drills.access import API_TIMEOUT_SECONDS, cluster
from drills.drill import Drill, Level, Observation, Verdict
from signals import SignalError
from signals.arming import Armed, read
from signals.store import stores_of
from stacks.contract import Deployment

LAB: Final = "lab"
ENVIRONMENT_LABEL: Final = "tandem.io/environment"
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
    level: Level
    rules: Rules
    folder: Path
    """Journals of this environment."""
    token: str = ""
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
            except (ApiException, HTTPError, OSError) as error:
                return Observation(name, held=False, detail=f"{site}: {type(error).__name__} {error}"[:300])
            said = (namespace.metadata.labels or {}).get(ENVIRONMENT_LABEL)
            if said != env:
                detail = f"{site}: namespace {platform.namespace} is labelled {said}, asked for {env}"
                return Observation(name, held=False, detail=detail)
        return Observation(name, held=True, detail=env)

    def _armed(self) -> Armed | str:
        """The token, or why there is none."""
        if not self.token:
            return (
                f"no token for {self.drill.name};"
                f" arm it first: tandem drill arm --env {self.deployment.env} --level {self.level}"
            )
        try:
            return read(stores_of(self.deployment.storage), self.token)
        except SignalError as error:
            return str(error)

    def _token(self, armed: Armed | str, now: datetime) -> Observation:
        name = "armed"
        if isinstance(armed, str):
            return Observation(name, held=False, detail=armed)
        wanted = (self.deployment.env, str(self.level), self.drill.name)
        if (armed.env, armed.level, armed.drill) != wanted:
            detail = f"token {armed.token} is for {armed.drill} at level {armed.level} in {armed.env}"
            return Observation(name, held=False, detail=detail)
        return Observation(name, held=not armed.expired(now), detail=f"by {armed.who} until {armed.until}")

    def _approved(self, armed: Armed | str) -> Observation:
        name = "a second person agreed"
        if isinstance(armed, str) or not armed.approved_by:
            detail = f"nobody; a colleague types: tandem drill approve {self.token or 'TOKEN'}"
            return Observation(name, held=False, detail=detail)
        return Observation(name, held=True, detail=armed.approved_by)

    def _rehearsed(self, now: datetime) -> Observation:
        name = f"a {REHEARSED} drill was held in the last {FRESH.days} days"
        newest = newest_held(self.folder, REHEARSED)
        if newest is None:
            return Observation(name, held=False, detail=f"no journal in {self.folder}: run it first")
        return Observation(name, held=now - newest <= FRESH, detail=newest.isoformat(timespec="minutes"))


def newest_held(folder: Path, name: str) -> datetime | None:
    """When a drill of that name was last held here."""
    found = [
        datetime.fromisoformat(content["ended"])
        for content in (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json"))
        if content.get("drill") == name and content.get("status") == Verdict.HELD
    ]
    return max(found, default=None)


def refusals(observations: Sequence[Observation]) -> list[Observation]:
    """What keeps a drill out."""
    return [observation for observation in observations if not observation.held]
