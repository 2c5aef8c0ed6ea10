"""Probes of the DNS service: what it answers, and what its checkers see."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from drills.access import route53
from drills.drill import Observation
from drills.resolver import ResolutionError, Resolver
from stacks.contract import Deployment

HEALTHY_SHARE = 0.18
"""Route 53 calls an endpoint healthy when more than this share of its checkers does."""
MISSED_BY_CHANCE = 1e-6


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
        except (BotoCoreError, ClientError) as error:
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
        except (BotoCoreError, ClientError) as error:
            return Observation(self.name, held=False, detail=str(error))
        split = min(good, checkers - good) >= self.least_share * checkers > 0
        return Observation(self.name, split, f"{good} of {checkers} checkers succeed")


def checkers_that_succeed(deployment: Deployment, site: str) -> tuple[int, int]:
    """How many checkers had a good golden answer at their last try, and how many there are."""
    return succeeding(deployment, deployment.traffic.sites[site].golden_check_id)


def succeeding(deployment: Deployment, check: str) -> tuple[int, int]:
    """How many of a check's checkers had a good answer at their last try, and how many there are."""
    status = route53(deployment.traffic).get_health_check_status(HealthCheckId=check)
    reports = [seen["StatusReport"]["Status"] for seen in status["HealthCheckObservations"]]
    return sum(report.startswith("Success") for report in reports), len(reports)


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
            seen = [succeeding(self.deployment, check) for check in checks]
        except (BotoCoreError, ClientError) as error:
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
        wanted = traffic.sites[self.site].address
        asks = traffic.shadow_name if self.shadow else traffic.service_name
        resolver = Resolver(traffic.resolver)
        seen: set[str] = set()
        questions = max(self.questions, self._enough())
        for asked in range(1, questions + 1):
            try:
                seen.update((await resolver.resolve(asks)).addresses)
            except ResolutionError as error:
                return Observation(self.name, held=False, detail=str(error))
            if wanted in seen:
                return Observation(self.name, held=self.leads, detail=f"{wanted} within {asked} answers")
        detail = f"{wanted} not in {questions} answers, only {', '.join(sorted(seen))}"
        return Observation(self.name, held=not self.leads, detail=detail)

    def _enough(self) -> int:
        """Questions whose answers all miss a site of this weight by chance once in a million times."""
        sites = self.deployment.traffic.sites
        share = sites[self.site].weight / (sum(site.weight for site in sites.values()) or 1)
        return math.ceil(math.log(MISSED_BY_CHANCE) / math.log(1 - share)) if 0 < share < 1 else 1
