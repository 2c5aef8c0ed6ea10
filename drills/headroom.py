"""Whether the other sites can carry what a site carries now: measured demand against declared capacity.

Capacity by Little's law: requests in flight = requests/s x seconds each takes. A site's gateways hold
`concurrency_limit` in flight each, so the site carries at most pods x limit / latency. Latency is taken as it is now;
it grows with load, hence the reserve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from drills import gateways
from drills.drill import Observation
from drills.gateways import Flow, SilentGatewaysError
from stacks.contract import Deployment

USABLE_SHARE: Final = 0.7
"""Of a site's capacity; the rest is for latency that grows with load and for users who come in waves."""


@dataclass(frozen=True)
class Share:
    """What one site would carry, beside what it can."""

    site: str
    requests_per_second: float
    capacity_per_second: float | None
    """None where nothing was ever asked, so that nothing is known of how long an answer takes."""
    shedding: bool

    @property
    def enough(self) -> bool:
        """Whether the site can carry its share."""
        if self.requests_per_second == 0:
            return True
        fits = self.capacity_per_second is not None and (
            self.requests_per_second <= USABLE_SHARE * self.capacity_per_second
        )
        return fits and not self.shedding

    def __str__(self) -> str:
        capacity = "an unknown capacity" if self.capacity_per_second is None else f"{self.capacity_per_second:.0f}/s"
        shedding = ", and it sheds already" if self.shedding else ""
        return f"{self.site} would carry {self.requests_per_second:.1f}/s of {USABLE_SHARE:.0%} of {capacity}{shedding}"


def shares(
    deployment: Deployment, receivers: Sequence[str], flows: Mapping[str, Flow], extra_per_second: float = 0.0
) -> list[Share]:
    """What each receiver would carry if it and the other receivers had all that is carried now, divided by weight.

    `extra_per_second` comes on top. Where nothing was ever asked, an answer to it takes as long as is promised.
    """
    carried = sum(each.requests_per_second for each in flows.values())
    demand = carried + extra_per_second
    weights = {each: deployment.traffic.sites[each].weight for each in receivers}
    if not any(weights.values()):
        # DNS gives sites of weight 0 only when no other is well, and then all of them alike.
        weights = dict.fromkeys(receivers, 1)
    slowest = max((each.latency_seconds for each in flows.values() if each.latency_seconds), default=None)
    if slowest is None and not carried and extra_per_second:
        # Next to no answer takes longer than that, so the reserve is in it already.
        slowest = USABLE_SHARE * deployment.traffic.objectives.p99_ms / 1000
    found = []
    for each in receivers:
        latency = flows[each].latency_seconds or slowest
        limit = flows[each].pods * deployment.serving[each].concurrency_limit
        found.append(
            Share(
                each,
                demand * weights[each] / sum(weights.values()),
                None if latency is None else limit / latency,
                flows[each].shed_per_second > 0,
            )
        )
    return found


async def measured(
    deployment: Deployment, site: str, receivers: Sequence[str], extra_per_second: float = 0.0
) -> list[Share]:
    """The shares from what all these sites carry now. Raises SilentGatewaysError."""
    sites = [site, *receivers]
    flows = await asyncio.gather(*(gateways.measure(deployment, each) for each in sites))
    return shares(deployment, receivers, dict(zip(sites, flows, strict=True)), extra_per_second)


async def headroom(
    deployment: Deployment, site: str, receivers: Sequence[str] | None = None, extra_per_second: float = 0.0
) -> Observation:
    """Whether the others can carry what `site` carries, and a drill's own load on top; with the figures."""
    name = f"the others can carry the load of {site}"
    others = [each for each in sorted(deployment.traffic.sites) if each != site] if receivers is None else receivers
    try:
        found = await measured(deployment, site, others, extra_per_second)
    except SilentGatewaysError as error:
        return Observation(name, held=False, detail=f"it cannot be measured: {error}")
    return Observation(name, bool(found) and all(each.enough for each in found), "; ".join(map(str, found)))
