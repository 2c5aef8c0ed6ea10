"""Probes of the DNS service: what it answers, and what its checkers see."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Final

from drills.drill import Observation
from drills.probes.checkers import UnaskedError, succeeding
from drills.resolver import NameServers, Resolution, ResolutionError
from stacks.contract import Deployment

HEALTHY_SHARE = 0.18
"""Route 53 calls an endpoint healthy when more than this share of its checkers does."""
MISSED_BY_CHANCE = 1e-6
AT_ONCE: Final = 20
"""Questions on their way at the same time."""


@dataclass(frozen=True)
class DnsHealth:
    """Enough of the DNS service's checkers had a good answer at their last try."""

    deployment: Deployment
    site: str

    @property
    def name(self) -> str:
        return f"the health check of {self.site} succeeds"

    async def ask(self) -> Observation:
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Observation:
        try:
            good, checkers = checkers_that_succeed(self.deployment, self.site)
        except UnaskedError as error:
            return Observation(self.name, held=False, detail=str(error))
        return Observation(self.name, good > HEALTHY_SHARE * checkers, f"{good} of {checkers} checkers succeed")


@dataclass(frozen=True)
class CheckersSplit:
    """Some of the checkers see the site and some do not."""

    deployment: Deployment
    site: str
    least_share: float = 0.25
    """Of each kind."""

    @property
    def name(self) -> str:
        return f"the checkers of {self.site} disagree"

    async def ask(self) -> Observation:
        try:
            good, checkers = await asyncio.to_thread(checkers_that_succeed, self.deployment, self.site)
        except UnaskedError as error:
            return Observation(self.name, held=False, detail=str(error))
        split = min(good, checkers - good) >= self.least_share * checkers > 0
        return Observation(self.name, split, f"{good} of {checkers} checkers succeed")


def checkers_that_succeed(deployment: Deployment, site: str) -> tuple[int, int]:
    """How many checkers had a good golden answer at their last try, and how many there are."""
    return succeeding(deployment.traffic, deployment.traffic.sites[site].golden_check_id)


@dataclass(frozen=True)
class MarkSeen:
    """The DNS service's checkers find a drain mark of the site where they look for it."""

    deployment: Deployment
    site: str
    shadow: bool = False

    @property
    def name(self) -> str:
        return f"checkers see a {'shadow ' if self.shadow else ''}drain mark of {self.site}"

    async def ask(self) -> Observation:
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Observation:
        endpoint = self.deployment.traffic.sites[self.site]
        checks = endpoint.shadow_drain_check_ids if self.shadow else endpoint.drain_check_ids
        try:
            # What a checker found is told as it is; only the status of the check is inverted.
            seen = [succeeding(self.deployment.traffic, check) for check in checks]
        except UnaskedError as error:
            return Observation(self.name, held=False, detail=str(error))
        detail = "; ".join(f"{good} of {checkers}" for good, checkers in seen)
        return Observation(self.name, any(good > HEALTHY_SHARE * checkers for good, checkers in seen), detail)


@dataclass(frozen=True)
class DnsNames:
    """The service's name leads to this site for some of the users; or, with `leads` false, for none of them."""

    deployment: Deployment
    site: str
    leads: bool = True
    shadow: bool = False
    """Ask the shadow name."""
    questions: int = 40
    """At least so many; more for a site of little weight."""

    @property
    def name(self) -> str:
        which = "the shadow name" if self.shadow else "DNS"
        return f"{which} leads to {self.site}" if self.leads else f"{which} leads nobody to {self.site}"

    async def ask(self) -> Observation:
        traffic = self.deployment.traffic
        asks = traffic.shadow_name if self.shadow else traffic.service_name
        servers = NameServers(traffic)
        seen: set[str] = set()
        questions = max(self.questions, self._enough())
        try:
            wanted = await self._addresses(servers)
            for start in range(0, questions, AT_ONCE):
                answers = await servers.draw(asks, min(AT_ONCE, questions - start))
                for number, answer in enumerate(answers, start + 1):
                    addresses = _given(answer)
                    if led := wanted.intersection(addresses):
                        return Observation(self.name, self.leads, f"{min(led)} within {number} answers")
                    seen.update(addresses)
        except ResolutionError as error:
            return Observation(self.name, held=False, detail=str(error))
        detail = f"{', '.join(sorted(wanted))} not in {questions} answers, only {', '.join(sorted(seen))}"
        return Observation(self.name, held=not self.leads, detail=detail)

    async def _addresses(self, servers: NameServers) -> set[str]:
        """Every address of the site: a load balancer has several, and its own name has them all.

        Raises ResolutionError.
        """
        endpoint = self.deployment.traffic.sites[self.site]
        if not self.deployment.pool[self.site].edge_dns_name:
            return {endpoint.address}
        (answer,) = await servers.draw(endpoint.name, 1)
        return {endpoint.address, *_given(answer)}

    def _enough(self) -> int:
        """Questions whose answers all miss a site of this weight by chance once in a million times."""
        sites = self.deployment.traffic.sites
        share = sites[self.site].weight / (sum(site.weight for site in sites.values()) or 1)
        return math.ceil(math.log(MISSED_BY_CHANCE) / math.log(1 - share)) if 0 < share < 1 else 1


def _given(answer: Resolution | ResolutionError) -> tuple[str, ...]:
    """The addresses. Raises ResolutionError where there was no answer."""
    if isinstance(answer, ResolutionError):
        raise answer
    return answer.addresses
