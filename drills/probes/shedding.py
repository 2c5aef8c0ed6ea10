"""Probe of a site that turns requests away: its golden answer stays green then, by design."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from drills import gateways
from drills.drill import DrillError, Observation
from drills.gateways import Reading
from stacks.contract import Deployment

ANSWER_SECONDS = 2.0
"""Longest a look waits; counters that come later are used by the next."""


@dataclass
class NothingShed:
    """The gateways of a site have turned nobody away since the last look.

    Gateways that cannot be asked are no news: other probes tell of those.
    """

    deployment: Deployment
    site: str
    _before: Reading | None = field(default=None, init=False)
    _asking: asyncio.Task[Reading] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return f"{self.site} sheds nothing"

    async def ask(self) -> Observation:
        if self._asking is None:
            self._asking = asyncio.create_task(asyncio.to_thread(gateways.read, self.deployment, self.site))
        done, _ = await asyncio.wait({self._asking}, timeout=ANSWER_SECONDS)
        if not done:
            return Observation(self.name, held=True, detail="its gateways have not said yet")
        asked, self._asking = self._asking, None
        try:
            seen = asked.result()
        except DrillError as error:
            return Observation(self.name, held=True, detail=f"no news: {error}")
        before, self._before = self._before, seen
        if before is None:
            return Observation(self.name, held=True, detail="first look")
        shed = gateways.flow(before, seen).shed_per_second
        return Observation(self.name, held=shed <= 0, detail=f"{shed:.1f} requests/s shed")
