"""Whether users have been failed less than was promised, as far back as the gateways that run can tell."""

from __future__ import annotations

import asyncio

from drills import gateways
from drills.drill import Observation
from drills.gateways import FAILED, SilentGatewaysError
from stacks.contract import Deployment


async def budget(deployment: Deployment) -> Observation:
    """Failures of all sites since their gateways started, beside what the availability objective allows.

    Counters die with their pods: right after a rollout little is known, and the figures say how little.
    """
    name = "error budget left"
    try:
        readings = await asyncio.gather(
            *(asyncio.to_thread(gateways.read, deployment, site) for site in sorted(deployment.traffic.sites))
        )
    except SilentGatewaysError as error:
        return Observation(name, held=False, detail=f"it cannot be measured: {error}")
    pods = [pod for reading in readings for pod in reading.pods.values()]
    asked, bad = sum(pod["requests"] for pod in pods), sum(pod[FAILED] for pod in pods)
    allowed = asked * (1 - deployment.traffic.objectives.availability_percent / 100)
    detail = (
        f"{bad:.0f} of {asked:.0f} requests failed since the {len(pods)} gateways started, {allowed:.0f} are allowed"
    )
    # Nothing asked is nothing known.
    return Observation(name, held=asked > 0 and bad <= allowed, detail=detail)
