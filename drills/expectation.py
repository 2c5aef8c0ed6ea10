"""What a right answer is: every site's ranking for the drill's own requests, asked before anything breaks."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from typing import Any

import httpx

from drills.access import as_client, site_url
from drills.drill import NotRun
from stacks.contract import Deployment

PATH = "/v1/recommendations"
K = 10
REQUESTS = 24
"""Distinct requests the virtual users take turns with."""


@dataclass(frozen=True)
class Expectation:
    """The drill's requests and the ranking both sites gave for each."""

    deployment: Deployment
    bodies: tuple[bytes, ...]
    rankings: tuple[tuple[str, ...], ...]

    def body(self, turn: int) -> bytes:
        """The request a virtual user sends at its n-th turn."""
        return self.bodies[turn % len(self.bodies)]

    def judge(self, body: bytes, answer: bytes) -> str | None:
        """None for a right answer, else what is wrong with it."""
        try:
            content = json.loads(answer)
            site, digest = content["site"], content["model_digest"]
            ranking = tuple(item["id"] for item in content["items"])
            finite = all(math.isfinite(item["score"]) for item in content["items"])
        except (ValueError, KeyError, TypeError) as error:
            return f"not an answer: {type(error).__name__} {error}"
        declared = self.deployment.serving.get(site)
        if declared is None:
            return f"names the site {site!r}, which is not declared"
        if digest != declared.model_digest:
            return f"{site} answered with {digest}, declared is {declared.model_digest}"
        if not finite:
            return f"{site} answered with a score that is not finite"
        expected = self.rankings[self.bodies.index(body)]
        if ranking != expected:
            return f"{site} ranked {ranking[:3]}..., expected {expected[:3]}..."
        return None


async def gather(deployment: Deployment) -> Expectation:
    """Ask every site the same requests; NotRun when one does not answer or ranks differently."""
    sites = sorted(deployment.traffic.sites)
    async with httpx.AsyncClient(timeout=deployment.traffic.request_timeout_seconds * 5) as http:
        known = [item["id"] for item in (await _ask(http, deployment, sites[0], {"history": [], "k": 50}))["items"]]
        if not known:
            raise NotRun(f"{sites[0]} recommends nothing to a user without history: there is nothing to ask about")
        requests = [
            {"history": [known[(turn * 7 + step * (turn + 1)) % len(known)] for step in range(turn % 12)], "k": K}
            for turn in range(REQUESTS)
        ]
        rankings = []
        for request in requests:
            answers = await asyncio.gather(*(_ask(http, deployment, site, request) for site in sites))
            by_site = {
                site: tuple(item["id"] for item in answer["items"]) for site, answer in zip(sites, answers, strict=True)
            }
            if len(set(by_site.values())) > 1:
                raise NotRun(f"the sites rank the same request differently: {request} -> {by_site}")
            rankings.append(by_site[sites[0]])
    bodies = tuple(json.dumps(request, separators=(",", ":")).encode() for request in requests)
    return Expectation(deployment, bodies, tuple(rankings))


async def _ask(http: httpx.AsyncClient, deployment: Deployment, site: str, request: dict[str, Any]) -> dict[str, Any]:
    traffic = deployment.traffic
    endpoint = traffic.sites[site]
    url = site_url(traffic, endpoint, PATH)
    try:
        answer = await http.post(url, json=request, **as_client(traffic, endpoint))
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise NotRun(f"{site} gave no answer to learn from: {url}: {error}") from error
    return content
