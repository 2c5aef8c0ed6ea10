"""What state a site is in: marks, health, DNS, traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from drills import gateways
from drills.choice import well
from drills.drill import ask_all
from drills.gateways import SilentGatewaysError
from signals import marks
from signals.marks import InStore
from stacks.contract import Deployment


async def standing(deployment: Deployment, site: str) -> dict[str, Any]:
    """All that can be seen of a site, as JSON."""
    kept, shadow, observations = await asyncio.gather(
        asyncio.to_thread(marks.read, deployment, site),
        asyncio.to_thread(marks.read, deployment, site, shadow=True),
        ask_all(well(deployment, site)),
    )
    try:
        carried: dict[str, Any] = (await gateways.measure(deployment, site)).document()
    except SilentGatewaysError as error:
        carried = {"error": str(error)}
    return {
        "site": site,
        "drained": bool(marks.counting(kept)),
        "shadow_drained": bool(marks.counting(shadow)),
        "marks": [
            {
                "store": each.store,
                "counts": each.counts,
                "shadow": index >= len(kept),
                "mark": each.mark and vars(each.mark),
                "error": each.error,
            }
            for index, each in enumerate([*kept, *shadow])
        ],
        "probes": [vars(each) for each in observations],
        "traffic": carried,
    }


def said(results: Sequence[InStore]) -> str:
    """Marks as they stand, for a person."""
    return ", ".join(
        f"{each.store}: {each.error or (f'marked by {each.mark.who} at {each.mark.when}' if each.mark else 'no mark')}"
        for each in results
    )
