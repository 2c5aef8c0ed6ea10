"""Probes of a site's answers, asked straight at its edge."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass

import httpx

from drills.access import as_client, site_url
from drills.drill import Observation
from stacks.contract import Deployment

TOKEN_WINDOW_BYTES = 512
SILENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError)
"""A target that refuses, says nothing or resets."""


@dataclass(frozen=True)
class GoldenAnswer:
    """The site's gateway says that its golden inference is right, for a digest that is accepted."""

    deployment: Deployment
    site: str

    @property
    def name(self) -> str:
        return f"golden answer of {self.site}"

    async def ask(self) -> Observation:
        traffic = self.deployment.traffic
        endpoint = traffic.sites[self.site]
        accepted = self.deployment.serving[self.site].accepted_digests
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
        return Observation(self.name, held=digest in accepted, detail=f"{digest}, accepted {', '.join(accepted)}")


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
            detail = f"{url}: {type(error).__name__} {error}".rstrip()
            return Observation(self.name, held=_is_the_targets(error), detail=detail)
        bit = answer.is_server_error
        return Observation(self.name, held=bit, detail=f"{url}: {answer.status_code}")


def _is_the_targets(error: httpx.HTTPError) -> bool:
    """Whether it is the site that did not answer, and not this machine, a name, a certificate or bad HTTP."""
    if isinstance(error, httpx.RemoteProtocolError):
        return "disconnected" in str(error) or "closed" in str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError | socket.gaierror):
            return False
        cause = cause.__cause__ or cause.__context__
    return isinstance(error, SILENT)
