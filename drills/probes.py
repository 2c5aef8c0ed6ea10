"""Probes: questions about a site, its DNS record and its pods."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from drills.access import API_TIMEOUT_SECONDS, apps_api, as_client, route53, site_url
from drills.drill import Observation
from drills.resolver import ResolutionError, Resolver
from stacks.contract import Deployment

TOKEN_WINDOW_BYTES = 512
HEALTHY_SHARE = 0.18
"""Route 53 calls an endpoint healthy when more than this share of its checkers does."""


@dataclass(frozen=True)
class GoldenAnswer:
    """The site's gateway says that its golden inference is right, for the digest that is declared."""

    deployment: Deployment
    site: str

    @property
    def name(self) -> str:
        return f"golden answer of {self.site}"

    async def ask(self) -> Observation:
        traffic = self.deployment.traffic
        endpoint = traffic.sites[self.site]
        declared = self.deployment.serving[self.site].model_digest
        url = site_url(traffic, endpoint, traffic.health_path)
        try:
            async with httpx.AsyncClient(timeout=traffic.request_timeout_seconds) as http:
                answer = await http.get(url, **as_client(traffic, endpoint))
        except httpx.HTTPError as error:
            return Observation(self.name, held=False, detail=f"{url}: {type(error).__name__} {error}".rstrip())
        if (
            answer.status_code != httpx.codes.OK
            or traffic.health_token.encode() not in answer.content[:TOKEN_WINDOW_BYTES]
        ):
            return Observation(self.name, held=False, detail=f"{url}: {answer.status_code} {answer.text[:200]}")
        try:
            digest = json.loads(answer.content).get("digest")
        except (ValueError, AttributeError):
            return Observation(self.name, held=False, detail=f"{url}: no JSON object: {answer.text[:200]}")
        return Observation(self.name, held=digest == declared, detail=f"{digest}, declared {declared}")


@dataclass(frozen=True)
class Unreachable:
    """Independent proof that a site is gone for its users: connection refused, timed out, reset, or a 5xx."""

    deployment: Deployment
    site: str

    @property
    def name(self) -> str:
        return f"users cannot reach {self.site}"

    async def ask(self) -> Observation:
        traffic = self.deployment.traffic
        endpoint = traffic.sites[self.site]
        url = site_url(traffic, endpoint, "/v1/recommendations")
        try:
            async with httpx.AsyncClient(timeout=traffic.request_timeout_seconds) as http:
                answer = await http.post(url, json={"history": [], "k": 1}, **as_client(traffic, endpoint))
        except httpx.HTTPError as error:
            return Observation(self.name, held=True, detail=f"{url}: {type(error).__name__} {error}".rstrip())
        bit = answer.is_server_error
        return Observation(self.name, held=bit, detail=f"{url}: {answer.status_code}")


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
        traffic = self.deployment.traffic
        check = traffic.sites[self.site].health_check_id
        try:
            status = route53(traffic).get_health_check_status(HealthCheckId=check)
        except (BotoCoreError, ClientError) as error:
            return Observation(self.name, held=False, detail=f"health check {check}: {error}")
        reports = [seen["StatusReport"]["Status"] for seen in status["HealthCheckObservations"]]
        good = sum(report.startswith("Success") for report in reports)
        healthy = good > HEALTHY_SHARE * len(reports)
        return Observation(
            self.name,
            held=healthy,
            detail=f"{good} of {len(reports)} checkers succeed",
        )


@dataclass(frozen=True)
class DnsNames:
    """The service's name leads to this site for some of the users; or, with `leads` false, for none of them."""

    deployment: Deployment
    site: str
    leads: bool = True
    questions: int = 40
    """At a weight of a tenth, so many answers miss the site once in 68."""

    @property
    def name(self) -> str:
        return f"DNS leads to {self.site}" if self.leads else f"DNS leads nobody to {self.site}"

    async def ask(self) -> Observation:
        traffic = self.deployment.traffic
        wanted = traffic.sites[self.site].address
        resolver = Resolver(traffic.resolver)
        seen: set[str] = set()
        for asked in range(1, self.questions + 1):
            try:
                seen.update((await resolver.resolve(traffic.service_name)).addresses)
            except ResolutionError as error:
                return Observation(self.name, held=False, detail=str(error))
            if wanted in seen:
                return Observation(self.name, held=self.leads, detail=f"{wanted} within {asked} answers")
        detail = f"{wanted} not in {self.questions} answers, only {', '.join(sorted(seen))}"
        return Observation(self.name, held=not self.leads, detail=detail)


@dataclass(frozen=True)
class PodsReady:
    """As many Triton and gateway pods are ready at a site as its stack declares."""

    deployment: Deployment
    site: str

    @property
    def name(self) -> str:
        return f"declared pods of {self.site} ready"

    async def ask(self) -> Observation:
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Observation:
        serving = self.deployment.serving[self.site]
        declared = {
            serving.triton_deployment: serving.triton_replicas,
            serving.gateway_deployment: serving.gateway_replicas,
        }
        api = apps_api(self.deployment, self.site)
        ready: dict[str, int] = {}
        try:
            for name in declared:
                found = api.read_namespaced_deployment(name, serving.namespace, _request_timeout=API_TIMEOUT_SECONDS)
                ready[name] = (found.status.ready_replicas if found.status else None) or 0
        except (ApiException, HTTPError) as error:
            return Observation(self.name, held=False, detail=f"{type(error).__name__}: {error}"[:300])
        detail = ", ".join(f"{name} {ready[name]} of {declared[name]}" for name in declared)
        return Observation(self.name, held=ready == declared, detail=detail)
