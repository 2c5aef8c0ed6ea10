"""Learns, from an untouched deployment, what the drill's requests have to be answered with."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import httpx

from drills.access import as_client, site_url
from drills.answer import Expectation, Ranking
from drills.drill import NotRun
from stacks.contract import Deployment

__all__ = ["PATH", "Expectation", "gather"]

PATH: Final = "/v1/recommendations"
K: Final = 10
REQUESTS: Final = 24
"""Distinct requests the virtual users take turns with."""


async def gather(deployment: Deployment) -> Expectation:
    """Ask every site the same requests; NotRun when one does not answer, or two rank differently by one digest."""
    sites = sorted(deployment.traffic.sites)
    async with httpx.AsyncClient(timeout=deployment.traffic.request_timeout_seconds * 5) as http:
        _, known = await _ask(http, deployment, sites[0], {"history": [], "k": 50})
        if not known:
            raise NotRun(f"{sites[0]} recommends nothing to a user without history: there is nothing to ask about")
        requests = [
            {"history": [known[(turn * 7 + step * (turn + 1)) % len(known)] for step in range(turn % 12)], "k": K}
            for turn in range(REQUESTS)
        ]
        learned: dict[str, dict[int, Ranking]] = {}
        for number, request in enumerate(requests):
            answers = await asyncio.gather(*(_ask(http, deployment, site, request) for site in sites))
            for site, (digest, ranking) in zip(sites, answers, strict=True):
                before = learned.setdefault(digest, {}).setdefault(number, ranking)
                if ranking != before:
                    raise NotRun(
                        f"one digest ranks the same request differently: {request} -> {before[:3]}...,"
                        f" {site} {ranking[:3]}...: what is right is not known"
                    )
    bodies = tuple(json.dumps(request, separators=(",", ":")).encode() for request in requests)
    whole = {
        digest: tuple(rankings[number] for number in range(REQUESTS))
        for digest, rankings in learned.items()
        if len(rankings) == REQUESTS
    }
    if not whole:
        raise NotRun("no digest answered every request while learning: a rollout is under way; wait until it has ended")
    accepted = {site: tuple(serving.accepted_digests) for site, serving in deployment.serving.items()}
    return Expectation(bodies, whole, accepted)


async def _ask(
    http: httpx.AsyncClient, deployment: Deployment, site: str, request: dict[str, Any]
) -> tuple[str, Ranking]:
    """The digest a site names, and its ranking."""
    traffic = deployment.traffic
    endpoint = traffic.sites[site]
    accepted = deployment.serving[site].accepted_digests
    url = site_url(traffic, endpoint, PATH)
    try:
        answer = await http.post(url, json=request, **as_client(traffic, endpoint))
        answer.raise_for_status()
        content = answer.json()
        digest, ranking = str(content["model_digest"]), tuple(item["id"] for item in content["items"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise NotRun(f"{site} gave no answer to learn from: {url}: {type(error).__name__} {error}") from error
    if digest not in accepted:
        raise NotRun(f"{site} answered with {digest}, declared is {' or '.join(accepted)}: nothing to learn from it")
    return digest, ranking
